"""What routing is worth on a model and questions, before anything is re-mixed: leverage, headroom, use, chance."""

from .audit_records import AuditSummary
from .audit_run import audit, audited_in, draw_report, is_audit, summary_of
from .audit_summary import leverage_line
from .expert_load import ExpertLoad
from .load_difference import LoadDifference
from .routing_sets import routing_statistics, trace_files
from .routing_statistics import RoutingStatistics, apart_values

__all__ = [
    "AuditSummary",
    "ExpertLoad",
    "LoadDifference",
    "RoutingStatistics",
    "apart_values",
    "audit",
    "audited_in",
    "draw_report",
    "is_audit",
    "leverage_line",
    "routing_statistics",
    "summary_of",
    "trace_files",
]
