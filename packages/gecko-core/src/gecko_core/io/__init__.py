"""Files: whole-file writing and locks, table readers, settings, templates, progress; the only code that does these."""

from __future__ import annotations

from gecko_core.io.files import (
    flush,
    locked,
    read_json,
    remove_leftovers,
    unwritable,
    whole_file,
    whole_folder,
    whole_path,
    write_json,
    write_text,
)
from gecko_core.io.progress import Bars, Lines, Progress, Silent, format_seconds, make_progress
from gecko_core.io.records import Record
from gecko_core.io.settings import (
    Section,
    apply_override,
    describe_error,
    dump_settings,
    load_settings,
    parse_settings,
    parse_yaml,
    read_yaml,
)
from gecko_core.io.tables import (
    HUB,
    TABLE_SUFFIXES,
    below_data_dir,
    count_rows,
    find_data,
    pyarrow,
    read_hub,
    read_lines,
    read_table,
    table_kind,
    unreadable,
    user_path,
)
from gecko_core.io.templates import render

__all__ = [
    "HUB",
    "TABLE_SUFFIXES",
    "Bars",
    "Lines",
    "Progress",
    "Record",
    "Section",
    "Silent",
    "apply_override",
    "below_data_dir",
    "count_rows",
    "describe_error",
    "dump_settings",
    "find_data",
    "flush",
    "format_seconds",
    "load_settings",
    "locked",
    "make_progress",
    "parse_settings",
    "parse_yaml",
    "pyarrow",
    "read_hub",
    "read_json",
    "read_lines",
    "read_table",
    "read_yaml",
    "remove_leftovers",
    "render",
    "table_kind",
    "unreadable",
    "unwritable",
    "user_path",
    "whole_file",
    "whole_folder",
    "whole_path",
    "write_json",
    "write_text",
]
