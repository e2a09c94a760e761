"""What a step reads from this machine and what it leaves there, as hashes: do they still hold for a finished run?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from gecko_core.errors import ConfigError, DataError, ModelError
from gecko_core.folder import check_model, local_folder, read_layout, resolve
from gecko_core.io import HUB, below_data_dir, file_hash, find_data, read_json, unreadable
from gecko_eval.data import find_qrels, load_sts
from gecko_fret.corpus import TEXT_SUFFIXES
from gecko_train.config import StageConfig, StudentConfig
from gecko_train.data.sources.registry import check_scores, check_set, option_files
from gecko_train.loop.trackers import check_trackers
from gecko_train.loss.objective import Objective

Inputs = dict[str, Path]


def corpus_input(path: str | None) -> Inputs:
    """The file or folder of a corpus."""
    return {"the corpus": Path(path)} if path and not path.startswith(HUB) else {}


def student_input(student: StudentConfig) -> Inputs:
    """The folder of the start model; nothing for one of the hub."""
    return _model("student.model", student.model)


def stage_inputs(name: str, stage: StageConfig) -> Inputs:
    """What a stage of training reads: its sets, the sets that it is evaluated on, and its teacher.

    Args:
        name: section of the recipe.
        stage: the section.
    """
    found = {label: below_data_dir(path) for label, path in _paths(name, stage).items()}
    return found | (_model(f"{name}.teacher", stage.teacher) if stage.teacher else {})


def check_student(student: StudentConfig) -> None:
    """Check what can be told of the start model without loading it: that it is there, its layout and its width.

    Args:
        student: the section of the recipe.

    Raises:
        ModelError: it is not there, or no model that a student could start from.
        ConfigError: dims wider than it is.
    """
    try:
        check_model(student.model)
        if student.backbone or resolve(student.model).gguf_file:
            return  # it gets a projection to these dims
        folder = local_folder(resolve(student.model))
        layout = read_layout(folder)
        layout.check_cosine(folder)
        config = layout.transformer / "config.json"
        width = read_json(config, error=ModelError, cure="fetch the model again").get("hidden_size")
    except ModelError as error:
        raise ModelError(f"student.model: {error}") from None
    if layout.dense:
        width = layout.dense[-1].out_features
    if isinstance(width, int):  # else the backbone calls it otherwise, and tells when it is loaded
        check_width(student, width)


def check_width(student: StudentConfig, width: int) -> None:
    """Check that the widest of the dims that are asked for is the start model's own.

    Args:
        student: the section of the recipe.
        width: of the model's embeddings.

    Raises:
        ConfigError: it is not.
    """
    if student.dims[0] != width:
        smaller = [dim for dim in student.dims if dim < width]
        raise ConfigError(
            f"student.dims: {student.dims[0]} is not the {width} of {student.model}, and the widest must be the "
            f"model's own: {[width, *smaller]}; or start from a backbone (student.backbone: true), which gets a "
            "projection"
        )


def check_stage(name: str, stage: StageConfig, dims: Sequence[int]) -> None:
    """Check that a stage's files are there, its teacher, and the libraries that its trainer needs.

    Args:
        name: section of the recipe.
        stage: the section.
        dims: Matryoshka widths of the student.

    Raises:
        ConfigError: a library is not installed; a source, an option or a width that there is not.
        DataError: a file or folder that is not there.
        ModelError: the teacher is not there, and the hub does not give it.
    """
    for label, path in _paths(name, stage).items():
        try:
            find_data(path)
        except DataError as error:
            raise DataError(f"{label}: {error}") from None
    if stage.teacher:
        try:
            check_model(stage.teacher)
            if not resolve(stage.teacher).gguf_file:
                read_layout(local_folder(resolve(stage.teacher)))
        except ModelError as error:
            raise ModelError(f"{name}.teacher: {error}") from None
        cache = stage.teacher_cache
        if cache and Path(cache).exists() and not Path(cache).is_dir():
            raise ConfigError(f"{name}.teacher_cache: {cache} is a file; name a folder")
    _check_evaluation(name, stage)
    check_trackers(stage.trainer.trackers)
    for entry in stage.sets:
        try:
            check_set(entry)
            Objective(stage.objective_of(entry), dims)
        except (ConfigError, DataError) as error:
            raise type(error)(f"{name}.{error}") from None
    try:
        check_scores(stage)
    except ConfigError as error:
        raise ConfigError(f"{name}.{error}") from None


def _check_evaluation(name: str, stage: StageConfig) -> None:
    """Check that what checkpoints are to be evaluated on are judged sets or scored pairs, each named once."""
    paths = stage.trainer.evaluate.sets if stage.trainer.evaluate else []
    for number, path in enumerate(paths):
        place = find_data(path)
        where = f"{name}.trainer.evaluate.sets.{number}"
        if path in paths[:number]:
            raise ConfigError(f"{where}: {path} is named before; name each set once")
        try:
            if (place / "qrels").is_dir():
                find_qrels(place, "test")
            else:
                load_sts(place)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None


def _paths(name: str, stage: StageConfig) -> dict[str, str]:
    """Files and folders of this machine that the recipe names, by their keys."""
    paths = {f"{name}.sets.{number}": entry.path for number, entry in enumerate(stage.sets) if entry.path}
    for number, entry in enumerate(stage.sets):
        paths |= {f"{name}.sets.{number}.options.{key}": path for key, path in option_files(entry).items()}
    judged = stage.trainer.evaluate.sets if stage.trainer.evaluate else []
    paths |= {f"{name}.trainer.evaluate.sets.{number}": path for number, path in enumerate(judged)}
    return {label: path for label, path in paths.items() if not path.startswith(HUB)}


def content_hash(path: Path) -> str | None:
    """sha256 over names and bytes of a file, or of the files below a folder; None where there is nothing.

    Hidden files that are no texts do not count, nor the card of a model. Of a FRet folder only passages and rows do:
    its manifest and its report say when and how fast they were made, too.

    Raises:
        DataError: a file cannot be read.
    """
    if not path.exists():
        return None
    try:
        if path.is_file():
            return file_hash(path)
        is_fret = (path / "manifest.json").is_file() and (path / "fret").is_dir()
        folders = [path / "fret", path / "corpus"] if is_fret else [path]
        return hashlib.sha256("\n".join(_lines(path, folders)).encode("utf-8", "surrogatepass")).hexdigest()
    except OSError as error:
        raise unreadable(Path(error.filename or path), error) from None


def made_hashes(folder: Path, places: Iterable[str]) -> dict[str, str]:
    """Hashes of what a step made: the files named, and of the folders named the models and other weights.

    A model is all its files but the card and ``gecko.json``, which a user may add to.

    Args:
        folder: the run's.
        places: files and folders below it; those that are not there are left out.

    Raises:
        DataError: a file cannot be read.
    """
    files = [path for place in places for path in _made(folder / place)]
    try:
        return {path.relative_to(folder).as_posix(): file_hash(path) for path in files}
    except OSError as error:
        raise unreadable(Path(error.filename or folder), error) from None


def _made(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    is_model = (place / "modules.json").is_file()
    files = (path for path in place.rglob("*" if is_model else "*.safetensors") if path.is_file())
    return sorted(path for path in files if path.name not in ("README.md", "gecko.json") and path.name[0] != ".")


def _lines(root: Path, folders: Iterable[Path]) -> Iterable[str]:
    is_model = (root / "config.json").exists() and any(root.glob("*.safetensors"))
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(root)
            is_text = path.suffix.lower() in TEXT_SUFFIXES  # which are read as passages, hidden or not
            hidden = any(part.startswith(".") for part in name.parts) and (is_model or not is_text)
            card = path.name == "README.md" and is_model
            if path.is_file() and not hidden and not card:
                yield f"{name.as_posix()} {file_hash(path)}"


def _model(label: str, name: str) -> Inputs:
    try:
        resolved = resolve(name)
    except ModelError:  # loading it says so
        return {}
    return {} if resolved.path is None else {label: resolved.path}
