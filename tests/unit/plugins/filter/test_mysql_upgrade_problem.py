from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.filter.mysql_upgrade_problem import (
    FilterModule,
    mysql_upgrade_problem,
)


def older(data: str, image: str, choose: str) -> str:
    return (
        f"the data are of MySQL {data}, which MySQL {image} cannot take back; choose MySQL "
        f"{choose} or later, or load a dump into an empty data directory"
    )


def skips(data: str, image: str, choose: str) -> str:
    return (
        f"the data are of MySQL {data}, and MySQL {image} cannot skip a long-term release; "
        f"choose MySQL {choose}, deploy, and then go on"
    )


@pytest.mark.parametrize(
    ("data", "image"),
    [
        ("", "8.0.36"),  # nothing there yet
        ("9.7.4", "9.7.4"),
        ("9.7.4", "9.7"),
        # patch releases of a series, in both directions
        ("9.7.1", "9.7.4"),
        ("9.7.4", "9.7.1"),
        ("8.4.6", "8.4.0"),
        # one long-term release to the next, and everything on the way
        ("5.7.44", "8.0.36"),
        ("8.0.36", "8.3.0"),
        ("8.0.36", "8.4.3"),
        ("8.3.0", "8.4.0"),
        ("8.4.3", "9.0.1"),
        ("8.4.3", "9.7.1"),
        ("9.2.0", "9.7.1"),
        ("9.0.1", "9.6.0"),
        ("9.7.4", "26.7.0"),
    ],
)
def test_allowed_paths(data: str, image: str) -> None:
    assert mysql_upgrade_problem(data, f"mysql:{image}") == ""


@pytest.mark.parametrize(
    ("data", "image", "problem"),
    [
        ("9.7.4", "8.4.3", older("9.7.4", "8.4.3", "9.7")),
        ("9.7.4", "9.6.0", older("9.7.4", "9.6.0", "9.7")),
        ("9.7.4", "8.0", older("9.7.4", "8.0", "9.7")),
        ("8.4.0", "8.3.0", older("8.4.0", "8.3.0", "8.4")),
        ("26.7.0", "9.7.4", older("26.7.0", "9.7.4", "26.7")),
        ("8.0.36", "9.7.1", skips("8.0.36", "9.7.1", "8.4")),
        ("8.0.36", "9.0", skips("8.0.36", "9.0", "8.4")),
        ("8.3.0", "9.2.0", skips("8.3.0", "9.2.0", "8.4")),
        ("8.4.3", "26.7.0", skips("8.4.3", "26.7.0", "9.7")),
        ("9.2.0", "26.7.0", skips("9.2.0", "26.7.0", "9.7")),
        ("5.7.44", "8.4.3", skips("5.7.44", "8.4.3", "8.0")),
        ("5.7.44", "9.7.1", skips("5.7.44", "9.7.1", "8.0")),
    ],
)
def test_paths_that_mysql_does_not_have(data: str, image: str, problem: str) -> None:
    assert mysql_upgrade_problem(data, f"mysql:{image}") == problem


@pytest.mark.parametrize(
    ("image", "told", "problem"),
    [
        ("mysql:lts", "9.7.1", ""),
        ("mysql:lts", "8.4.3", older("9.7.4", "8.4.3", "9.7")),
        # what a tag says goes first
        ("mysql:9.7.1", "8.4.3", ""),
        (
            "mysql:lts",
            "",
            "the data are of MySQL 9.7.4 and the version of the image is not known; write it into "
            "the tag (mysql:9.7.1@sha256:…), or pull the image on the host before the run",
        ),
    ],
)
def test_an_image_whose_tag_has_no_version(image: str, told: str, problem: str) -> None:
    assert mysql_upgrade_problem("9.7.4", image, told) == problem


def test_a_text_that_is_no_version() -> None:
    with pytest.raises(AnsibleFilterError) as error:
        mysql_upgrade_problem("new", "mysql:9.7.1")
    assert str(error.value) == "mysql_upgrade_problem: 'new' is not a version of MySQL"


def test_ansible_finds_the_filter() -> None:
    assert FilterModule().filters() == {"mysql_upgrade_problem": mysql_upgrade_problem}
