"""WebShop's official files: where they are published, taken from what lies here, and told from others under their names.

Addresses are those of setup.sh in princeton-nlp/WebShop (64fa2a5). It has no checksums: sizes and hashes are those on which projects that
publish theirs agree. A file of Google Drive too large for its virus scan is given out where Drive's own confirmation page leads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stages.core.files import settled
from stages.panelling.archives import is_archive, opened
from stages.panelling.download import fetch
from stages.panelling.release import Piece, Release, ReleaseError, check, is_page, look, put
from stages.panelling.webshop.official import FILES
from stages.panelling.webshop.settings import WebshopPanels

FOLDER = Path("webshop_data")
"""Where files go as long as panels.webshop.data_dir says nothing else."""


def _on_drive(name: str, size: int, sha256: str, number: str) -> Piece:
    url = f"https://drive.usercontent.google.com/download?id={number}&export=download&confirm=t"
    return Piece(name, size, sha256, url, f"https://drive.google.com/uc?id={number}")


PIECES = (
    _on_drive(
        "items_shuffle_1000.json",
        4_467_013,
        "30a4765c3a327af72d9a9a95a6b2486d516f0fa1d3ecd83681901ce82a21b269",
        "1EgHdxQ_YxqIQlvvq5iKlCrkEKR6-j0Ib",
    ),
    _on_drive(
        "items_ins_v2_1000.json",
        147_099,
        "f88a36314a397b53b3d9c3fa5878e5f7b26d35019a51ec83fbedeca61a948f6f",
        "1IduG0xl544V_A_jv3tHXC0kyFi7PnyBu",
    ),
    _on_drive(
        "items_shuffle.json",
        5_479_720_229,
        "2ef591d65df3af89e972ab72468eb82cbf124d876552d9f3678667edd620a6c8",
        "1A2whVgOO0euk5O13n2iYDM0bQRkkRduB",
    ),
    _on_drive(
        "items_ins_v2.json",
        186_295_270,
        "1d36af476bdb8f82a5da62bd8acdabe54cd8de2fa84010d37da5c4890feb447e",
        "1s2j6NgHljiZzQNL3veZaAiyW_qDEgBNi",
    ),
    _on_drive(
        "items_human_ins.json",
        5_137_548,
        "cf78667548a71786e1d9049c24b802e48e1084ad4bb021cae56ce1f6d96954a3",
        "14Kb5SPBk_jfdLZ_CDBNitW98QLDlKR5O",
    ),
)
"""The small shop's products and their attributes, those of all 1,181,436 products, and what people asked for."""


class WebshopRelease(Release):
    """The three files of the shop that the settings name."""

    title = "WebShop's products, attributes and instructions"
    origin = "Google Drive, named by setup.sh of github.com/princeton-nlp/WebShop"
    licence = "MIT (Princeton Natural Language Processing); the products' texts are from amazon.com"

    def __init__(self, settings: WebshopPanels) -> None:
        self.settings = settings
        names = FILES["1000" if settings.products else "all"]
        self.pieces = tuple(piece for piece in PIECES if piece.name in names)
        self.place = settled(settings.data_dir) if settings.data_dir else FOLDER

    def lacking(self) -> list[str]:
        return unfit(self.place, [piece.name for piece in self.pieces])

    def download(self) -> list[str]:
        return [self._said(fetch(piece, self.place)) for piece in self.pieces]

    def take(self, sources: Sequence[Path]) -> list[str]:
        said: dict[str, str] = {}
        for source in sources:
            for piece in self.pieces:
                if piece.name not in said and (path := _lying(source, piece.name)):
                    said[piece.name] = self._taken(path, piece)
            if source.is_file() and source.name not in {piece.name for piece in PIECES}:
                said |= self._unpacked(source, [piece for piece in self.pieces if piece.name not in said])
        if not said:
            names = ", ".join(piece.name for piece in self.pieces)
            raise ReleaseError(
                f"{', '.join(map(str, sources))}: none of {names} in it; name the folder, the archive or the files"
            )
        return list(said.values())

    def _taken(self, path: Path, piece: Piece) -> str:
        goal = self.place / piece.name
        if goal.exists():
            check(goal, piece, PIECES)
        else:
            if wrong := look(path, piece, PIECES):
                raise ReleaseError(f"{path}: {wrong}. Get {piece.name} again: {piece.page}")
            with path.open("rb") as stream:
                put(stream, piece, goal, str(path))
        return self._said(goal)

    def _unpacked(self, archive: Path, pieces: Sequence[Piece]) -> dict[str, str]:
        if not is_archive(archive):
            page = " (it begins as a page of HTML)" if is_page(archive) else ""
            raise ReleaseError(
                f"{archive}: neither a folder, nor a zip or tar archive, nor one of WebShop's files by its name{page}; name one of those"
            )
        said: dict[str, str] = {}
        with opened(archive) as members:
            for member in members:
                piece = next((piece for piece in pieces if piece.name == Path(member.name).name), None)
                if piece is None or piece.name in said:
                    continue
                goal, source = self.place / piece.name, f"{archive}: {member.name}"
                if goal.exists():
                    check(goal, piece, PIECES)
                elif member.size != piece.size:
                    raise ReleaseError(
                        f"{source}: {piece.size:,} bytes expected, {member.size:,} found: not the file of the release"
                    )
                else:
                    with member.open() as stream:
                        put(stream, piece, goal, source)
                said[piece.name] = self._said(goal)
        return said

    def _said(self, path: Path) -> str:
        unset = "" if self.settings.data_dir else f"; set panels.webshop.data_dir to {self.place}"
        return f"{path}: {path.stat().st_size:,} bytes, SHA-256 as published{unset}"


def _lying(source: Path, name: str) -> Path | None:
    """A file of that name: the source itself, or in it, or in `data/` in it, as in a checkout of WebShop."""
    found = [path for path in (source, source / name, source / "data" / name) if path.name == name and path.is_file()]
    return found[0] if found else None


def unfit(folder: Path, names: Sequence[str]) -> list[str]:
    """A line for every file of these names that is missing, or cannot be what its name says: by its size another file of the release, a
    page of HTML, cut in the middle. Files of other shops in the official schema pass; it reads a few bytes of each."""
    missing = [name for name in names if not (folder / name).is_file()]
    there = [folder / name for name in names if name not in missing]
    lines = [f"{folder} lacks {', '.join(missing)}"] if missing else []
    return lines + [f"{path}: {wrong}" for path in there if (wrong := _unfit(path))]


def _unfit(path: Path) -> str:
    size = path.stat().st_size
    other = next((piece.name for piece in PIECES if piece.size == size and piece.name != path.name), None)
    if other:
        return f"by its size this is {other} under another name"
    if is_page(path):
        return "a page of HTML in the file's place"
    with _ends(path) as (first, last):
        begin, end = ("[", "]") if path.name.startswith("items_shuffle") else ("{", "}")
        if not first.startswith(begin.encode()):
            return f"it should begin with {begin}, and begins with {first[:20].decode(errors='replace')!r}: another file under this name"
        return "" if last.endswith(end.encode()) else f"it should end with {end}: half a download"


@contextmanager
def _ends(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The first and the last bytes of a file, without blanks around them."""
    with path.open("rb") as file:
        first = file.read(512)
        file.seek(max(0, path.stat().st_size - 512))
        yield first.lstrip(), file.read().rstrip()
