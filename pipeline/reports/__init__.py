"""What people and programs get for a source: tables, subtitles, the story's files and the report page."""

from pipeline.records.source_info import SourceInfo
from pipeline.reports.outputs import write_outputs
from pipeline.reports.tables import CSV_COLUMNS

__all__ = ["CSV_COLUMNS", "SourceInfo", "write_outputs"]
