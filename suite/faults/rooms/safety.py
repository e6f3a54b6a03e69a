"""Faults in handling untrusted checkpoints: what runs, what is followed, what is believed."""

from suite.faults.fault import Fault, Patch

_NPZ = "layouts/paligemma_npz.py"

FAULTS = (
    Fault(
        id="npz_is_read_with_allow_pickle",
        story="numpy may unpickle members of an npz, which runs code by whoever made the file.",
        evidence="https://numpy.org/doc/stable/reference/generated/numpy.load.html",
        patches=(
            Patch(
                _NPZ,
                "        if dtype.hasobject:\n",
                "        if dtype.hasobject and self._archive.open(name).read(128):\n"
                "            with self._archive.open(name) as member:\n"
                "                np.lib.format.read_array(member, allow_pickle=True)\n"
                "        if dtype.hasobject:\n",
            ),
        ),
        caught_by=("safety.pickle_in_an_npz_is_not_run",),
    ),
    Fault(
        id="a_file_is_tried_as_a_pickle",
        story="A file is unpickled to find out what it is.",
        evidence="https://docs.python.org/3/library/pickle.html",
        patches=(
            Patch(
                "layouts/orbax/folder.py",
                "    if folder.is_file() and (foreign",
                '    if folder.is_file():\n        __import__("pickle").loads(folder.read_bytes())\n'
                "    if folder.is_file() and (foreign",
            ),
        ),
        caught_by=("safety.pickle_is_not_run",),
    ),
    Fault(
        id="members_outside_are_accepted",
        story="An archive with a member that unpacks outside its folder is accepted.",
        evidence="https://cwe.mitre.org/data/definitions/22.html",
        patches=(Patch(_NPZ, 'path.is_absolute() or ".." in path.parts', "False"),),
        caught_by=("safety.member_outside_is_refused",),
    ),
    Fault(
        id="listings_outside_are_accepted",
        story="A file that a server lists outside the folder is written where its name says.",
        evidence="https://cwe.mitre.org/data/definitions/22.html",
        patches=(Patch("storage/download.py", '[remote for remote in sizes if ".." in Path(remote).parts]', "[]"),),
        caught_by=("safety.listing_outside_is_refused",),
    ),
    Fault(
        id="links_out_are_followed",
        story="A symbolic link in a checkpoint is followed to wherever it leads.",
        evidence="https://cwe.mitre.org/data/definitions/59.html",
        patches=(Patch("layouts/orbax/metadata.py", "    refuse_links_out(folder)\n", ""),),
        caught_by=("safety.link_out_is_refused", "safety.link_out_is_not_loaded"),
    ),
    Fault(
        id="links_of_folders_are_followed",
        story="Only files are checked, so a folder that is a symbolic link is followed to the outside.",
        evidence="mutation: os.walk lists links to folders among the folders",
        patches=(Patch("layouts/orbax/untrusted.py", "(*folders, *files)", "files"),),
        caught_by=("safety.link_out_is_refused",),
    ),
    Fault(
        id="no_link_is_followed",
        story="A checkpoint with any symbolic link is refused, even one that stays inside.",
        evidence="mutation: is_symlink alone",
        patches=(Patch("layouts/orbax/untrusted.py", " and not path.resolve().is_relative_to(root)", ""),),
        caught_by=("restore.follows_links_within",),
    ),
    Fault(
        id="a_linked_checkpoint_is_refused",
        story="A link to a whole checkpoint is refused, because its files are elsewhere than the link.",
        evidence="mutation: a resolved path is compared with an unresolved one",
        patches=(Patch("layouts/orbax/untrusted.py", "root = folder.resolve()", "root = folder"),),
        caught_by=("restore.follows_links_within",),
    ),
    Fault(
        id="claimed_shapes_are_believed",
        story="Memory is allocated for whatever shape the metadata claims.",
        evidence="mutation: no plausibility check",
        patches=(
            Patch(
                "layouts/orbax/metadata.py",
                "    refuse_absurd_sizes(folder, {name: flat[raw] for raw, name in names.items()})\n",
                "",
            ),
        ),
        caught_by=("safety.claim_beyond_the_limits_is_refused",),
    ),
    Fault(
        id="claimed_pieces_are_believed",
        story="An array's size is checked, but not the number of pieces that it claims to be stored in.",
        evidence="mutation: half of the plausibility check",
        patches=(Patch("layouts/orbax/untrusted.py", " or pieces * _SMALLEST_PIECE > stored", ""),),
        caught_by=("safety.claim_beyond_the_limits_is_refused",),
    ),
    Fault(
        id="limits_do_not_allow_for_their_own_size",
        story="An array that claims exactly as many bytes as the limit is refused.",
        evidence="mutation: >= in place of >",
        patches=(Patch("layouts/orbax/untrusted.py", "leaf.num_bytes > max(", "leaf.num_bytes >= max("),),
        caught_by=("safety.claim_within_the_limits_is_read",),
    ),
    Fault(
        id="compression_is_held_for_a_lie",
        story="An array may be at most sixteen times larger than its files, so all zeros are refused.",
        evidence="mutation: the ratio of typical weights in place of the best possible one",
        patches=(Patch("layouts/orbax/untrusted.py", "_BEST_COMPRESSION = 1 << 15", "_BEST_COMPRESSION = 1 << 4"),),
        caught_by=("restore.keeps_zeros_that_compress_well",),
    ),
    Fault(
        id="npz_headers_are_believed",
        story="Memory is allocated for the size in a member's header, and running out of it is a crash.",
        evidence="mutation: arrays are read to find their shapes",
        patches=(
            Patch(
                _NPZ,
                "if not dtype.hasobject and Leaf(shape, dtype)",
                "if np.empty(shape) is None and Leaf(shape, dtype)",
            ),
            Patch(_NPZ, "except Exception as error:", "except (ValueError, OSError) as error:"),
        ),
        caught_by=("safety.claim_of_an_npz_is_not_allocated",),
    ),
    Fault(
        id="only_expected_errors_are_refusals",
        story="Two kinds of errors are expected when reading metadata; a third one passes without a name.",
        evidence="mutation: a narrow except clause; json raises RecursionError",
        patches=(
            Patch(
                "layouts/orbax/metadata.py",
                "item.custom_metadata or {}\n    except Exception as error:",
                "item.custom_metadata or {}\n    except (ValueError, OSError) as error:",
            ),
        ),
        caught_by=("restore.metadata_of_another_kind_is_refused_by_name", "safety.deep_metadata_is_refused"),
    ),
)
