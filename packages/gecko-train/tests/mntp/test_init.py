import gecko_train.mntp


def test_every_exported_name_is_there():
    for name in gecko_train.mntp.__all__:
        assert getattr(gecko_train.mntp, name).__name__ == name
