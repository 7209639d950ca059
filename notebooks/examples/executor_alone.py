"""The sandbox alone: run programs that you do not trust, and get their values back as data."""

import azr_lite as az

PROGRAMS = {
    "an honest one": "def f(x):\n    return sorted(x)",
    "an endless one": "def f(x):\n    while True: pass",
    "a reader of files": "def f(x):\n    return open('/etc/passwd').read()",
    "a large one": "def f(x):\n    return [0] * 10**9",
}

with az.Executor(workers=1) as executor:
    print("isolation:", executor.level.name)
    for name, program in PROGRAMS.items():
        [outcome] = executor.run(program, [([3, 1, 2],)])
        print(f"{name:18} {outcome.kind:10} {outcome.value!r} {outcome.detail}")
    twice = executor.validate_many([("def f(x):\n    return list({'a', 'b', x})", [("c",)])])
    print("order of a set:", twice[0].reason)  # run in several worlds, the outputs differ
