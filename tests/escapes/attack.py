"""How an attack is run: to its end, with everything it said."""

from typing import Any

from tests.bench import Bench

DONE = "attack-ran-to-its-end"


async def attack(bench: Bench, code: str, **request: Any) -> str:
    """What attacking code said on any way out. Its exceptions are its own output; it must reach its end."""
    # By name: a traceback shows the source of this program, and is not to be taken for what the attack found.
    program = f"attack = {code!r}\nimport traceback\ntry:\n    exec(attack)\nexcept BaseException:\n"
    result = await bench.run(f"{program}    traceback.print_exc()\nprint({DONE!r})", **request)
    assert DONE in result.stdout, result
    return f"{result.stdout}\n{result.stderr}\n{result.error}\n{result.result}"
