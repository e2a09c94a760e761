import pytest

from gecko_core.errors import BackendError


class Recorder:
    calls: list[tuple]

    def __init__(self):
        type(self).calls = []

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("create", repo_id, private, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.calls.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir()), commit_message))
        return "https://hub/commit/1"


def test_the_whole_folder_goes_up_in_one_commit(tiny, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Recorder)
    assert tiny.push_to_hub("org/gecko", record={"seed": 1}) == "https://hub/commit/1"
    create, upload = Recorder.calls
    assert create == ("create", "org/gecko", True, True)
    assert {"model.safetensors", "modules.json", "README.md", "gecko.json"} <= set(upload[2])


def test_a_refusal_is_one_line(tiny, monkeypatch):
    class Refuses(Recorder):
        def create_repo(self, *args, **options):
            raise OSError("401 Unauthorized\nlong explanation")

    monkeypatch.setattr("huggingface_hub.HfApi", Refuses)
    with pytest.raises(BackendError, match=r"org/gecko: the hub refused \(401 Unauthorized\)"):
        tiny.push_to_hub("org/gecko")
