"""Weights that stay where they are: found, held against their manifest, and used as if they had been copied."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fake_hub import COMMIT, MODEL, Hub, ask, hub
from structure import ROOT

from stages import base, source
from stages.core.params import load
from stages.core.records import Message
from stages.engines.opening import open_engine
from stages.models import manifest
from stages.models.hub import ModelError, Unreachable
from stages.models.manifest import model_folder, read_manifest, sha256_of
from stages.pretrained.obtain import obtain
from stages.pretrained.size import measure

pytest_plugins = ["tiny"]

OUT = Path("data/base/source")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a warm-up whose model is the folder `model`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_qwen2, "model")
    Path("data/base/warmup").mkdir(parents=True)
    choose("model")
    return tmp_path


@pytest.fixture
def served(tmp_path: Path, tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    shutil.copytree(tiny_qwen2, tmp_path / "remote")
    (tmp_path / "remote" / "pytorch_model.bin").write_bytes(b"a pickle that nobody wants")
    with hub(tmp_path / "remote", tmp_path / "cache", monkeypatch) as server:
        choose(MODEL)
        yield server


def choose(model: str) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["model"]["source"] = model
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def make() -> Path:
    """Run both stages; the folder that the base is found in."""
    source.run()
    base.run()
    return model_folder()


def identity() -> dict[str, object]:
    found: dict[str, object] = json.loads(Path("data/base/model/identity.json").read_text(encoding="utf-8"))
    return found


def test_a_folders_model_is_listed_and_not_copied(project: Path) -> None:
    assert make().resolve() == project / "model"
    assert sorted(p.name for p in OUT.iterdir()) == ["manifest.json"]
    assert sorted(p.name for p in Path("data/base/model").iterdir()) == ["identity.json", "manifest.json"]
    listed = read_manifest(OUT)
    assert listed == read_manifest(manifest.BASE) and listed is not None
    assert listed.files.keys() == {p.name for p in Path("model").iterdir()}
    assert str(project) not in (OUT / "manifest.json").read_text(encoding="utf-8")


def test_an_engine_plays_with_the_weights_where_they_are() -> None:
    make()
    engine = open_engine(load().engine.model_copy(update={"slots": 1, "max_new_tokens": 4}), manifest.BASE, None, ())
    engine.submit(engine.open(0), [Message("user", "look")])
    [reply] = engine.poll()
    assert reply.reply_tokens > 0
    Path("model/tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"model/tokenizer\.json: no such file"):
        open_engine(load().engine, manifest.BASE, None, ())


def test_a_model_that_is_moved_stays_the_same() -> None:
    make()
    before = (OUT / "manifest.json").read_bytes(), identity()
    Path("models").mkdir()
    Path("model").rename("models/model")
    choose("models/model")
    assert model_folder() == Path("models/model")
    assert make() == Path("models/model")
    assert ((OUT / "manifest.json").read_bytes(), identity()) == before


def test_an_experiments_copy_finds_a_relative_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    copy = project / ".dvc/tmp/exps/tmp1"
    shutil.copytree("data", copy / "data")
    shutil.copy("params.yaml", copy)
    monkeypatch.chdir(copy)
    assert model_folder() == project / "model"


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_file_that_is_not_what_was_listed_is_named(damage: str) -> None:
    make()
    path = Path("model/model.safetensors")
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-7] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    said = "no such file" if damage == "gone" else f"{len(content):,} bytes with SHA-256 .* expected.* found"
    with pytest.raises(ModelError, match=rf"model/model\.safetensors: {said}.*`dvc repro -f source`") as error:
        model_folder()
    assert "\n" not in str(error.value)
    if damage != "gone":
        path.write_bytes(content)
        assert model_folder() == Path("model")


def test_a_file_is_read_once_until_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    digest = sha256_of(Path("model/model.safetensors"))
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
        assert sha256_of(Path("model/model.safetensors")) == digest
        assert model_folder() == Path("model")
    manifest.MEMORY.write_text("{", encoding="utf-8")
    assert sha256_of(Path("model/model.safetensors")) == digest


def test_weights_in_data_base_source_are_not_copied_either(tiny_llama: Path) -> None:
    """The embedded model without a warm-up."""
    shutil.copytree(tiny_llama, OUT)
    Path("data/base/source.json").write_text('{"source": "embedded", "weights_sha256": "ab"}', encoding="utf-8")
    base.run()
    assert model_folder() == OUT and identity()["weights_sha256"] == "ab"
    (OUT / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"data/base/source/model\.safetensors: no such file.*dvc checkout"):
        model_folder()


def test_a_folder_that_holds_its_model_is_that_model(tiny_llama: Path) -> None:
    assert model_folder(tiny_llama) == tiny_llama


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 2}', '{"schema_version": 1, "files": {"a": 3}}'])
def test_a_manifest_that_cannot_be_read_is_named(text: str) -> None:
    OUT.mkdir(parents=True)
    (OUT / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        ModelError, match=r"data/base/source/manifest\.json: no manifest of a model.*dvc repro -f source"
    ):
        model_folder(OUT)


# The hub


def test_a_hubs_model_stays_in_its_cache(served: Hub, project: Path) -> None:
    lacking = measure(MODEL, None).lacking
    assert lacking == (project / "remote/model.safetensors").stat().st_size
    folder = make()
    assert folder.is_relative_to(project / "cache") and folder.name == COMMIT
    assert sorted(p.name for p in OUT.iterdir()) == ["manifest.json"]
    listed = read_manifest(OUT)
    assert listed is not None and (listed.model, listed.commit) == (MODEL, COMMIT)
    assert json.loads(Path("data/base/source.json").read_text(encoding="utf-8"))["revision"] == COMMIT
    assert served.fetched() == sorted(listed.files) and "pytorch_model.bin" not in listed.files
    assert measure(MODEL, None).lacking == 0


def test_the_same_files_are_the_same_model_wherever_they_are(served: Hub) -> None:
    there = obtain(MODEL, None, {}, Path.cwd(), Path())[0]
    here = obtain("model", None, {}, Path.cwd(), Path())[0]
    differing = {key for key in here if here[key] != there[key]}
    assert differing == {"source", "revision"}


def test_once_fetched_no_hub_is_asked(served: Hub) -> None:
    make()
    served.asked.clear()
    model_folder()
    assert served.asked == []


def test_on_another_machine_the_listed_commit_is_fetched(served: Hub, project: Path) -> None:
    make()
    shutil.rmtree(project / "cache")
    served.asked.clear()
    assert model_folder().name == COMMIT
    assert "model.safetensors" in served.fetched()


def test_what_the_cache_holds_is_enough_where_no_hub_is(
    served: Hub, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    before = (OUT / "manifest.json").read_bytes()
    ask("http://127.0.0.1:9", project / "cache", monkeypatch)
    assert make().name == COMMIT
    assert (OUT / "manifest.json").read_bytes() == before


def test_a_damaged_file_of_the_cache_is_named_and_fetched_again_when_it_is_removed(served: Hub) -> None:
    weights = make() / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    blob = weights.resolve()
    with pytest.raises(ModelError, match=rf"model\.safetensors: .* found; remove {blob}, and it is fetched again"):
        model_folder()
    with pytest.raises(
        ModelError, match=rf"model\.safetensors: SHA-256 {blob.name} expected by the hub.*remove {blob}"
    ):
        source.run()
    blob.unlink()
    assert make() == weights.parent


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://nowhere.invalid"])
def test_a_hub_that_cannot_be_reached_is_one_line_at_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], address: str
) -> None:
    ask(address, project / "cache", monkeypatch)
    choose(MODEL)
    begin = time.monotonic()
    with pytest.raises(
        Unreachable, match=f"{MODEL}: the hub at {address} cannot be reached .*set model.source to a folder"
    ) as error:
        source.run()
    assert "\n" not in str(error.value) and capfd.readouterr() == ("", "")
    assert time.monotonic() - begin < 10


def test_a_base_that_cannot_be_fetched_is_one_line_at_once(
    served: Hub, project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make()
    capfd.readouterr()
    ask("http://127.0.0.1:9", project / "other", monkeypatch)
    begin = time.monotonic()
    with pytest.raises(Unreachable, match="cannot be reached"):
        model_folder()
    assert capfd.readouterr() == ("", "") and time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("model", "revision", "said"),
    [
        ("someone/else", None, "model.source 'someone/else' is no folder here, and the hub has no such model"),
        (MODEL, "v9", f"{MODEL}: the hub has no revision 'v9'; correct model.revision"),
        ("./no/such/folder", None, "model.source './no/such/folder' is neither a folder here nor a hub id"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(served: Hub, model: str, revision: str | None, said: str) -> None:
    with pytest.raises(ModelError) as error:
        obtain(model, revision, {}, OUT, Path())
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "error", "kind", "said"),
    [
        (503, "", Unreachable, "cannot be reached .*503"),
        (403, "GatedRepo", ModelError, "only to those who accepted its terms"),
        (401, "RepoNotFound", ModelError, "the hub has no such model, or a private one"),
    ],
)
def test_a_hub_that_refuses_is_one_line(
    served: Hub, status: int, error: str, kind: type[ModelError], said: str
) -> None:
    served.status, served.error = status, error
    with pytest.raises(kind, match=said) as caught:
        obtain(MODEL, None, {}, OUT, Path())
    assert "\n" not in str(caught.value)


def test_a_proxy_that_cannot_be_used_is_one_line(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import close_session

    close_session()  # the client that is kept would not see the proxy
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"cannot be reached .*HTTPS_PROXY") as caught:
        obtain(MODEL, None, {}, OUT, Path())
    close_session()
    assert "\n" not in str(caught.value)
