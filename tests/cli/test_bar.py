from mcp_python_executor.cli.bar import Sizes


def test_what_has_come_is_told_of_what_is_to_come():
    sizes = Sizes()
    seen: list[tuple[int, int]] = []
    for stage in (
        "resolving",
        "downloading numpy (1.5MiB)",
        "downloading pandas (512.0KiB)",
        "downloaded numpy",
        "downloaded six",
        "downloaded pandas",
        "prepared 3 packages in 1.48s",
    ):
        sizes.hear(stage)
        seen.append((sizes.done, sizes.total))
    large, small = 3 * 2**19, 2**19
    assert seen == [
        (0, 0),
        (0, large),
        (0, large + small),
        (large, large + small),
        (large, large + small),
        (large + small, large + small),
        (large + small, large + small),
    ]
