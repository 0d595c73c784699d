"""Enumerations of the application; the database stores the names unless it says otherwise."""

from __future__ import annotations

import enum


class UserRole(enum.Enum):
    """What a user may do."""

    ADMIN = "admin"
    MODERATOR = "moderator"
    REVIEWER = "reviewer"
    VIEWER = "viewer"


class ProcessingStatus(enum.Enum):
    """Where an image's caption is on its way to the platform."""

    PENDING = "pending"
    REVIEWED = "reviewed"
    APPROVED = "approved"
    REJECTED = "rejected"
    POSTED = "posted"
    ERROR = "error"


class TaskStatus(enum.Enum):
    """State of a caption generation task."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobPriority(enum.Enum):
    """Priority of a task; the only enumeration stored by value, in lower case."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class NotificationType(enum.Enum):
    """Kind of a notification."""

    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"
    INFO = "info"
    PROGRESS = "progress"


# These are only stored, never read by the stand-in: the names are all that matters.
NotificationPriority = enum.Enum("NotificationPriority", "LOW NORMAL HIGH CRITICAL")
NotificationCategory = enum.Enum(
    "NotificationCategory",
    "SYSTEM CAPTION PLATFORM MAINTENANCE SECURITY USER ADMIN STORAGE DASHBOARD MONITORING "
    "PERFORMANCE HEALTH",
)
AlertSeverity = enum.Enum("AlertSeverity", "LOW MEDIUM HIGH CRITICAL")
AlertType = enum.Enum(
    "AlertType",
    "SYSTEM_ERROR RESOURCE_WARNING JOB_FAILURE REPEATED_FAILURES RESOURCE_LOW AI_SERVICE_DOWN "
    "QUEUE_BACKUP USER_ISSUE PERFORMANCE_DEGRADATION SECURITY_ALERT",
)
ComplianceStandard = enum.Enum(
    "ComplianceStandard",
    "OWASP_ASVS CWE_COVERAGE ISO_27001 SOC2 GDPR HIPAA PCI_DSS NIST_800_53",
)
ComplianceStatus = enum.Enum(
    "ComplianceStatus", "COMPLIANT PARTIALLY_COMPLIANT NON_COMPLIANT NOT_ASSESSED"
)
ComplianceCategory = enum.Enum(
    "ComplianceCategory",
    "ACCESS_CONTROL APPLICATION_SECURITY DATA_PROTECTION AUDIT_LOGGING INCIDENT_RESPONSE "
    "NETWORK_SECURITY PHYSICAL_SECURITY",
)

STORED_BY_NAME: dict[str, type[enum.Enum]] = {
    kind.__name__: kind
    for kind in (
        UserRole,
        ProcessingStatus,
        TaskStatus,
        NotificationType,
        NotificationPriority,
        NotificationCategory,
        AlertSeverity,
        AlertType,
        ComplianceStandard,
        ComplianceStatus,
        ComplianceCategory,
    )
}
STORED_BY_VALUE: dict[str, type[enum.Enum]] = {"JobPriority": JobPriority}
