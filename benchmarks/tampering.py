"""Claim: every kind of tampering with a signed release, at least 30 of them, is refused before anything in it is opened.

The kinds are those of tests/tamper_kinds.py: bytes, files, names, links, the manifest, the signature, and forgeries by someone who
writes the manifest anew. Beside: seconds to verify, and what unsigned releases catch of the same kinds.
Run: python benchmarks/tampering.py
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import common

sys.path.insert(0, str(common.ROOT / "tests"))
LEAST = 30


def refused(folder: Path) -> bool:
    """Whether a folder is refused with an error of ours."""
    from basewise.core.errors import ReleaseChanged
    from basewise.engine.signing import verify

    try:
        verify(folder)
    except ReleaseChanged:
        return True
    return False


def try_all(signed: bool, kinds: list[str]) -> tuple[dict[str, bool], float]:
    """({kind: refused}, seconds to verify the untouched release)."""
    import released
    import tamper_kinds
    from basewise.engine import signing

    known = {**tamper_kinds.KINDS, **tamper_kinds.SIGNATURES, **tamper_kinds.FORGED}
    source = released.released(signed=signed)
    signing.trust(released.keys()[1])
    began = time.perf_counter()
    if refused(source):
        raise SystemExit("the untouched release was refused")
    seconds = time.perf_counter() - began
    out = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(shutil.copytree(source, Path(place) / "release"))
            known[kind](folder)
            out[kind] = refused(folder)
    return out, seconds


def main() -> None:
    """Every kind against a signed and an unsigned release."""
    o = common.options(__doc__)
    with tempfile.TemporaryDirectory() as home:
        os.environ["BASEWISE_HOME"] = home
        import tamper_kinds

        kinds = [*tamper_kinds.KINDS, *tamper_kinds.SIGNATURES, *tamper_kinds.FORGED]
        kinds = kinds[:: 12 if o.smoke else 1]
        signed, seconds = try_all(True, kinds)
        unsigned, _ = try_all(False, [k for k in kinds if k in tamper_kinds.KINDS])
    missed = [kind for kind, held in signed.items() if not held]
    result = {
        "kinds": len(kinds),
        "refused_signed": len(signed) - len(missed),
        "missed": missed,
        "refused_unsigned": sum(unsigned.values()),
        "tried_unsigned": len(unsigned),
        "verify_seconds": seconds,
        "headline": f"{len(signed) - len(missed)} of {len(signed)} kinds refused when signed,"
        f" {sum(unsigned.values())} of {len(unsigned)} when unsigned; verifying takes {seconds:.2f} s",
        "met": {f"all of at least {LEAST} kinds refused": not missed and (o.smoke or len(kinds) >= LEAST)},
    }
    print(result["headline"])
    common.write_result("tampering", str(__doc__).split("\n", 1)[0], result, smoke=o.smoke)


if __name__ == "__main__":
    main()
