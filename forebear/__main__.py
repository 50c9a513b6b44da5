"""Runs the command as ``python -P -m forebear``; without ``-P`` it refuses.

Without it the current folder comes first on the import path, so a ``hashlib.py`` lying in a
tampered release would run inside the verifier. Only the built-in ``sys`` is imported before that.
"""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        sys.stderr.write(
            "error: `python -m forebear` would import modules from the current folder\n"
            "  fix: use the `forebear` command, or `python -P -m forebear`\n"
        )
        raise SystemExit(2)
    from forebear.cli.main import main

    main()
