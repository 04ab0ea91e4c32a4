"""What routing is worth on a model and questions, before anything is re-mixed: leverage, headroom, use, chance."""

from .audit_records import AuditSummary
from .audit_run import audit, audited_in, draw_report, is_audit, summary_of
from .audit_summary import leverage_line

__all__ = ["AuditSummary", "audit", "audited_in", "draw_report", "is_audit", "leverage_line", "summary_of"]
