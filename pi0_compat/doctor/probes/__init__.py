"""Programs that show a fault in an interpreter: each prints ``wrong`` or ``right``, and writes only below its folder.

They run in any Python from 3.10 on, without this package, as ``python probe.py FOLDER``.
"""
