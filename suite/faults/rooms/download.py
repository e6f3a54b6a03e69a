"""Faults in downloads; most are, or were, openpi's own."""

from suite.faults.fault import Fault, Patch

_OPENPI = "https://github.com/Physical-Intelligence/openpi"
_DOWNLOAD = f"{_OPENPI}/blob/15a9616/src/openpi/shared/download.py"
_IMPORT = Patch("storage/download.py", "import contextmanager\n", "import contextmanager, nullcontext\n")
_SCRATCH = 'tempfile.TemporaryDirectory(prefix=".partial-", dir=cache)'
_TARGET = 'cache / f"{name}-{digest}" / name'
_GET = "filesystem.get_file(remote, str(local))"
_SHORT = Patch("storage/download.py", "size is not None and local.stat().st_size != size", "False")

FAULTS = (
    Fault(
        id="a_dead_transfer_counts_as_done",
        bugs=("D1", "D9"),
        story="Failed transfers go unnoticed: half a checkpoint stays in the cache forever.",
        evidence=f"{_DOWNLOAD}#L132",
        patches=(
            Patch("storage/download.py", _GET, f"try: {_GET}\n            except Exception: pass"),
            _SHORT,
        ),
        caught_by=(
            "download.failed_transfer_is_refused_by_name",
            "download.failed_transfer_is_no_download",
            "download.earlier_try_leaves_no_trace",
        ),
    ),
    Fault(
        id="sizes_are_not_compared",
        bugs=("D1",),
        story="A file that ends early without an error is kept as complete.",
        evidence=f"{_OPENPI}/issues/598",
        patches=(_SHORT,),
        caught_by=("download.failed_transfer_is_refused_by_name", "download.failed_transfer_is_no_download"),
    ),
    Fault(
        id="scratch_is_used_again",
        bugs=("D2",),
        story="Files that a failed transfer left in its scratch folder become part of the next download.",
        evidence=f"{_DOWNLOAD}#L87",
        patches=(
            _IMPORT,
            Patch("storage/download.py", _SCRATCH, 'nullcontext(cache / f"{target.parent.name}.partial")'),
        ),
        caught_by=("download.earlier_try_leaves_no_trace",),
    ),
    Fault(
        id="scratch_is_named_without_the_suffix",
        bugs=("D3",),
        story="with_suffix maps v1.0 and v1.1 to the same scratch folder, v1.partial.",
        evidence=f"{_DOWNLOAD}#L87",
        patches=(
            _IMPORT,
            Patch("storage/download.py", _SCRATCH, 'nullcontext((cache / target.name).with_suffix(".partial"))'),
        ),
        caught_by=("download.neighbours_share_nothing",),
    ),
    Fault(
        id="places_are_named_by_the_last_component",
        story="The cache path is the URL's last component, so folders with the same name collide.",
        evidence="mutation: a name without its parents",
        patches=(Patch("storage/download.py", _TARGET, "cache / name / name"),),
        caught_by=("download.neighbours_share_nothing",),
    ),
    Fault(
        id="a_trailing_slash_is_a_name",
        bugs=("D4",),
        story="A trailing slash makes a different URL, one with an empty name.",
        evidence=f"{_DOWNLOAD}#L118",
        patches=(Patch("storage/download.py", 'os.fspath(path).rstrip("/")', "os.fspath(path)"),),
        caught_by=("download.folder_arrives_whole",),
    ),
    Fault(
        id="a_file_is_fetched_as_a_folder",
        bugs=("D4",),
        story="The target is always created as a folder, even for the URL of a single file.",
        evidence=f"{_DOWNLOAD}#L116",
        patches=(
            Patch(
                "storage/download.py",
                "local = whole / target.name / Path(remote).relative_to(root)",
                "local = whole / target.name / (Path(remote).relative_to(root) if Path(remote) != root else root.name)",
            ),
        ),
        caught_by=("download.file_arrives_as_a_file",),
    ),
    Fault(
        id="folders_are_flattened",
        story="All files land in one folder, named by their last component.",
        evidence="mutation: the name in place of the relative path",
        patches=(
            Patch(
                "storage/download.py",
                "Path(remote).relative_to(root)",
                'Path(remote).name.removesuffix(root.name or "/")',
            ),
        ),
        caught_by=("download.folder_arrives_whole", "download.part_is_not_the_whole"),
    ),
    Fault(
        id="presence_is_checked_before_the_lock_only",
        bugs=("D5",),
        story="After waiting for the lock, a caller downloads again what another one has just fetched.",
        evidence=f"{_OPENPI}/issues/845",
        patches=(Patch("storage/download.py", "            if not target.exists():\n", "            if True:\n"),),
        caught_by=("download.many_callers_share_one_transfer",),
    ),
    Fault(
        id="there_is_no_lock",
        bugs=("D5",),
        story="Concurrent callers all transfer the same files.",
        evidence=f"{_OPENPI}/pull/846",
        patches=(_IMPORT, Patch("storage/download.py", 'FileLock(f"{target.parent}.lock")', "nullcontext()")),
        caught_by=("download.many_callers_share_one_transfer",),
    ),
    Fault(
        id="credentials_are_looked_for",
        bugs=("D6",),
        story="A public bucket is accessed with credentials, which the machine may not have.",
        evidence=f"{_OPENPI}/issues/900",
        patches=(Patch("storage/download.py", ", **_STORAGE_OPTIONS.get(scheme, {})", ""),),
        caught_by=("download.public_bucket_needs_no_account",),
    ),
    Fault(
        id="old_downloads_are_deleted",
        bugs=("D7",),
        story="A cached checkpoint with an old modification time is deleted, whoever put it there.",
        evidence=f"{_OPENPI}/issues/268",
        patches=(
            Patch(
                "storage/download.py",
                "    if target.exists():\n        return target\n",
                "    if target.exists() and target.stat().st_mtime > 1.5e9:\n        return target\n"
                '    __import__("shutil").rmtree(target.parent, ignore_errors=True)\n',
            ),
        ),
        caught_by=("download.nothing_is_deleted",),
    ),
    Fault(
        id="a_download_empties_the_cache",
        bugs=("D7",),
        story="Everything else in the cache is deleted before a download.",
        evidence=f"{_OPENPI}/issues/268",
        patches=(
            Patch(
                "storage/download.py",
                "    cache = target.parent.parent\n",
                "    cache = target.parent.parent\n"
                '    [__import__("shutil").rmtree(old) for old in cache.iterdir() if old.is_dir()]\n',
            ),
        ),
        caught_by=("download.nothing_is_deleted",),
    ),
    Fault(
        id="everything_is_fetched_every_time",
        story="The cache is written but never read.",
        evidence="mutation: the cache is not consulted",
        patches=(Patch("storage/download.py", "    if target.exists():\n        return target\n", ""),),
        caught_by=("download.is_made_once",),
    ),
    Fault(
        id="parts_lie_where_the_whole_goes",
        story="A file is cached where its folder belongs: the folder then counts as cached, with one file.",
        evidence=f"{_DOWNLOAD}#L60",
        patches=(
            Patch("storage/download.py", f"return {_TARGET}", "return cache.joinpath(*parents, name).absolute()"),
        ),
        caught_by=("download.part_is_not_the_whole",),
    ),
    Fault(
        id="file_urls_are_taken_for_paths",
        bugs=("C16",),
        story="A URL whose scheme is not on a list is treated as a relative local path.",
        evidence=f"{_OPENPI}/commit/61c2755",
        patches=(Patch("storage/download.py", 'r"[a-zA-Z]', 'r"(?!file:)[a-zA-Z]'),),
        caught_by=("download.plain_file_system_is_read",),
    ),
    Fault(
        id="nothing_is_cached_as_a_folder",
        bugs=("D1",),
        story="A URL with nothing behind it gives an empty folder, which stays in the cache.",
        evidence=f"{_DOWNLOAD}#L116",
        patches=(
            Patch("storage/download.py", "    if not sizes:\n", "    if sizes is None:\n"),
            Patch(
                "storage/download.py",
                "        whole.rename(target.parent)",
                "        (whole / target.name).mkdir(parents=True, exist_ok=not sizes or whole.exists())\n"
                "        whole.rename(target.parent)",
            ),
        ),
        caught_by=("download.missing_source_is_refused_by_name",),
    ),
)
