"""Rules of a good image, checked on the Dockerfile's text, as no engine builds images here."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.images.dockerfile import REPOSITORY, Stage, ours, parse

DOCKERFILE = ours()
STAGES = list(DOCKERFILE.stages.values())
IMAGES = [DOCKERFILE.stages[name] for name in ("controller", "worker")]
each_image = pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
each_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)


def test_the_parser_joins_lines_and_leaves_comments_out() -> None:
    text = "ARG A=x:1\n# no\nFROM ${A} AS one\nRUN a \\\n    # no\n    && b\nUSER 1\n"
    stage = parse(text).stages["one"]
    assert stage.base == "x:1"
    assert [(item.name, item.words) for item in stage.instructions] == [
        ("RUN", "a && b"),
        ("USER", "1"),
    ]


@each_stage
def test_every_base_is_an_earlier_stage_or_pinned_to_a_version(stage: Stage) -> None:
    earlier = [other.name for other in STAGES[: STAGES.index(stage)]]
    if stage.base in earlier:
        return
    name, _, tag = stage.base.partition(":")
    assert name and re.search(r"\d+\.\d+\.\d+", tag), stage.base


@each_image
def test_an_image_ends_as_a_user_without_rights(image: Stage) -> None:
    user = image.all("USER")[-1]
    assert user.words == "10001:10001"
    last = [item.name for item in image.instructions[image.instructions.index(user) :]]
    assert not {"RUN", "COPY", "ADD"} & set(last)


@each_image
def test_an_image_starts_neva_without_a_shell(image: Stage) -> None:
    assert image.all("ENTRYPOINT")[0].words.startswith("[")
    assert image.all("ENTRYPOINT")[0].as_list == ["neva"]
    assert not image.all("HEALTHCHECK")  # the chart has probes


@each_image
def test_an_image_is_labelled(image: Stage) -> None:
    keys = {
        word.partition("=")[0].removeprefix("org.opencontainers.image.")
        for label in image.all("LABEL")
        for word in label.as_list
    }
    assert keys >= {"title", "description", "licenses", "version", "revision"}


def test_the_default_version_is_the_projects() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for image in IMAGES:
        assert f"VERSION={project['version']}" in [item.words for item in image.all("ARG")]


@each_stage
def test_nothing_is_fetched_but_packages(stage: Stage) -> None:
    assert not stage.all("ADD")
    for run in stage.all("RUN"):
        assert not re.search(r"\b(curl|wget|git clone|sudo)\b", run.words)


@each_stage
def test_apt_leaves_nothing_behind(stage: Stage) -> None:
    for run in stage.all("RUN"):
        if "apt-get" in run.words:
            assert "apt-get upgrade" not in run.words
            assert "--no-install-recommends" in run.words
            assert run.words.index("apt-get update") < run.words.index("apt-get install")
            assert "rm -rf /var/lib/apt/lists/*" in run.words


@each_stage
def test_pip_installs_pinned_wheels_only(stage: Stage) -> None:
    commands = [
        part
        for run in stage.all("RUN")
        for part in re.split(r"&&|;", run.words)
        if re.search(r"pip .*\binstall\b", part)
    ]
    for command in commands:
        if "/wheels/" in command:  # our own
            assert "--no-deps" in command
        else:
            assert "--only-binary :all:" in command
            assert "constraints.txt" in command


def test_dependencies_are_installed_before_the_source_is_copied() -> None:
    for name in ("controller-build", "worker-build"):
        stage = DOCKERFILE.stages[name]
        names = [item.name for item in stage.instructions]
        assert stage.base == "build"  # which has pyproject.toml and constraints.txt alone
        assert "/dependencies/" in stage.all("RUN")[0].words
        assert names.index("RUN") < names.index("COPY")
    copied = [item.words for item in DOCKERFILE.stages["build"].all("COPY")]
    assert copied == ["pyproject.toml constraints.txt ./"]


def test_no_secret_is_baked_in() -> None:
    for stage in STAGES:
        for item in [*stage.all("ENV"), *stage.all("ARG")]:
            assert not re.search(r"(?i)password|secret|token|api_?key", item.words)


def test_everything_that_is_copied_is_in_the_build_context() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored  # a list of what is wanted, so nothing else can slip in
    wanted = {line[1:].strip("/") for line in ignored if line.startswith("!")}
    copied = {
        source.strip("/")
        for stage in STAGES
        for item in stage.all("COPY")
        if not item.words.startswith("--from")
        for source in item.as_list[:-1]
    }
    assert copied == wanted
    assert all((REPOSITORY / name).exists() for name in wanted)


def test_the_source_stage_copies_every_package_of_the_wheel() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    build = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    wanted = {*build["packages"], *build["force-include"], project["project"]["readme"]}
    copied = {item.as_list[0].strip("/") for item in DOCKERFILE.stages["source"].all("COPY")}
    assert copied == wanted
    made = re.search(r"mkdir ([a-z ]+) &&", DOCKERFILE.stages["build"].all("RUN")[0].words)
    assert made is not None
    assert {*made[1].split(), "README.md"} == wanted
