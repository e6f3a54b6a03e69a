"""What a caller says about the policy folder to write, and checks of it that need nothing else."""

import dataclasses
import difflib
from collections.abc import Mapping

from pi0_compat.layouts.lerobot.config import LATEST, VERSIONS
from pi0_compat.layouts.lerobot.policy import IMAGES

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
FAST_CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LerobotOptions:
    """What lerobot's policy folder says that no parameter of openpi shows.

    Attributes:
      version: of lerobot, whose fields are written; lerobot rejects a field that it does not declare.
      cameras: openpi's camera -> key of lerobot's image; a camera that is left out is padded and masked. By default all
        three, as ``observation.images.<camera>``.
      state_dim: numbers in the robot's state; by default as many as the norm stats have.
      action_dim: numbers in the robot's actions; by default as many as the norm stats have.
      asset_id: which norm stats to take, where a checkpoint has several and the config names none of them.
      norm_stats: whether to write norm stats; without them lerobot leaves states and actions as they are.
      delta_actions: the dimensions of an action that are relative to the state, as openpi's ``make_bool_mask`` takes
        them: ``(6, -1)`` are six relative ones and an absolute one, ``()`` is for absolute actions. By default what the
        named config does.
      action_names: a name for every dimension of an action, by which lerobot knows the absolute ones.
      state_in_prompt: whether the prompt of a pi05 has the state (openpi's ``discrete_state_input``). By default what
        the named config does, if that is to have it.
      robot_transforms: False to accept that lerobot has no place for what the named config does to joints and grippers
        (openpi's ``adapt_to_pi``), and that the caller does it outside of lerobot.
      device: where lerobot runs the policy.
      adapters_base: write adapters alone, as PEFT's: the path or the repository of lerobot's policy that they go on.

    Raises:
      ValueError: the version or a camera is unknown, or a number is not allowed.
    """

    version: str = LATEST
    cameras: Mapping[str, str] | None = None
    state_dim: int | None = None
    action_dim: int | None = None
    asset_id: str | None = None
    norm_stats: bool = True
    delta_actions: tuple[int, ...] | None = None
    action_names: tuple[str, ...] | None = None
    state_in_prompt: bool | None = None
    robot_transforms: bool = True
    device: str = "cpu"
    adapters_base: str | None = None

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ValueError(f"version={self.version!r}; expected one of {', '.join(VERSIONS)}")
        for name in ("state_dim", "action_dim"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"{name}={size}; expected at least one")
        if self.delta_actions is not None and 0 in self.delta_actions:
            raise ValueError(
                f"delta_actions={self.delta_actions}; expected numbers of dimensions, negative if absolute"
            )
        if self.cameras is not None:
            self._require_cameras(self.cameras)

    @staticmethod
    def _require_cameras(cameras: Mapping[str, str]) -> None:
        known = sorted({*CAMERAS, *FAST_CAMERAS})
        for camera in cameras:
            if camera not in known:
                near = difflib.get_close_matches(camera, known, n=1)
                question = f"did you mean {near[0]}? " if near else ""
                raise ValueError(f"no camera {camera!r}; {question}expected one of {', '.join(known)}")
        if not cameras or len(set(cameras.values())) < len(cameras):
            raise ValueError(f"cameras={dict(cameras)}; expected a key of its own for each, and at least one")

    def images(self, family: str) -> tuple[str, ...]:
        """Return the keys of lerobot's images, in the order of openpi's cameras.

        Raises:
          ValueError: a camera is not the family's.
        """
        cameras = FAST_CAMERAS if family == "pi0_fast" else CAMERAS
        chosen = {camera: f"{IMAGES}.{camera}" for camera in cameras} if self.cameras is None else self.cameras
        if others := [camera for camera in chosen if camera not in cameras]:
            raise ValueError(f"{others[0]} is no camera of a {family}; expected {', '.join(cameras)}")
        return tuple(chosen[camera] for camera in cameras if camera in chosen)
