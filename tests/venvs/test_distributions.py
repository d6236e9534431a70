import pytest

from mcp_python_executor.errors import PackageError
from mcp_python_executor.venvs import distributions
from mcp_python_executor.venvs.distributions import near
from mcp_python_executor.venvs.operations import Venvs


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        ("PIL", ["pillow"]),
        ("sklearn", ["scikit-learn"]),
        ("cv2", ["opencv-python-headless", "opencv-python"]),
        ("bs4", ["beautifulsoup4"]),
        ("Speech_Recognition", ["speechrecognition"]),
        ("opencv", ["opencv-python"]),
        ("scikitlearn", ["scikit-learn"]),
        ("python-numpy", ["numpy"]),
        ("requets", ["requests"]),
        ("matplotlb", ["matplotlib"]),
    ],
)
def test_what_was_meant_is_offered(asked: str, offered: list[str]):
    assert near(asked) == offered


@pytest.mark.parametrize("asked", ["no-such-package-of-anybody-xyz", "foo", "numpy", ""])
def test_nothing_is_offered_where_nothing_is_near_nor_what_was_asked_for_itself(asked: str):
    assert asked not in near(asked)
    assert not set(near(asked)) - {"numpy-stl"}


def test_the_common_names_are_sorted_normalized_and_each_there_once():
    names = distributions.COMMON.split()
    assert names == sorted(set(names))
    assert not [name for name in names if name != name.lower() or "_" in name or "." in name]


@pytest.mark.anyio
async def test_an_unknown_name_is_told_with_the_ones_that_may_be_meant_and_none_of_them_is_installed(venvs: Venvs):
    with pytest.raises(PackageError, match="'pandaas' does not exist on the index; did you mean 'pandas'"):
        await venvs.install("lab", "pandaas, six")
    assert await venvs.names() == []


@pytest.mark.anyio
async def test_a_stand_in_that_cannot_be_built_is_told_with_what_is_meant(venvs: Venvs):
    with pytest.raises(PackageError, match=r"'sklearn' has no wheel .*; did you mean 'scikit-learn'"):
        await venvs.install("lab", "sklearn")
