"""The 20 tables of the application as data: columns, foreign keys, unique keys.

One line holds some columns as ``name type``; ``!`` marks NOT NULL. ``str:64`` is VARCHAR(64),
``enum:Name`` one of the enumerations in ``standin.enums``. Foreign keys give the rule for the
delete of the referenced row.
"""

from __future__ import annotations

TABLES: dict[str, str] = {
    "alert_configuration": """
        id int!, alert_type enum:AlertType!, metric_name str:100!,
        threshold_value float!, threshold_operator str:10, threshold_unit str:20,
        severity enum:AlertSeverity, enabled bool, notification_channels text,
        notification_template text, cooldown_minutes int, escalation_minutes int,
        description text, created_by int!, created_at datetime, updated_at datetime,
        last_triggered datetime, trigger_count int
    """,
    "caption_generation_tasks": """
        id str:36!, user_id int!, platform_connection_id int!, status enum:TaskStatus,
        settings_json text, created_at datetime, started_at datetime,
        completed_at datetime, error_message text, results_json text,
        progress_percent int, current_step str:200, priority enum:JobPriority,
        admin_notes text, cancelled_by_admin bool, admin_user_id int,
        cancellation_reason str:500, retry_count int, max_retries int,
        resource_usage text, admin_managed bool
    """,
    "caption_generation_user_settings": """
        id int!, user_id int!, platform_connection_id int!, max_posts_per_run int,
        max_caption_length int, optimal_min_length int, optimal_max_length int,
        reprocess_existing bool, processing_delay float, created_at datetime,
        updated_at datetime
    """,
    "compliance_audits": """
        id int!, standard enum:ComplianceStandard!, auditor_id int!,
        audit_date datetime!, overall_score float!, status enum:ComplianceStatus!,
        findings_count int, critical_findings int, high_findings int,
        medium_findings int, low_findings int, scope text, methodology text,
        findings text, recommendations text, next_audit_date datetime,
        created_at datetime, updated_at datetime
    """,
    "compliance_metrics": """
        id int!, standard enum:ComplianceStandard!, category enum:ComplianceCategory!,
        metric_name str:200!, metric_value float!, target_value float, unit str:50,
        calculation_date datetime, data_source str:100, is_automated bool,
        confidence_score float, metric_metadata text, created_at datetime
    """,
    "compliance_requirements": """
        id int!, audit_id int!, standard enum:ComplianceStandard!,
        category enum:ComplianceCategory!, requirement_id str:100!, title str:200!,
        description text, status enum:ComplianceStatus!, score float, is_critical bool,
        implementation_details text, test_methodology text, evidence text, notes text,
        created_at datetime, updated_at datetime
    """,
    "gdpr_audit_log": """
        id int!, user_id int, action_type str:50!, gdpr_article str:20,
        action_details text, request_data text, response_data text, status str:20,
        ip_address str:45, user_agent text, created_at datetime, completed_at datetime,
        admin_user_id int
    """,
    "images": """
        id int!, post_id int!, image_url text!, local_path str:500!,
        original_filename str:200, media_type str:100, image_post_id str:100,
        attachment_index int!, platform_connection_id int, platform_type str:50,
        instance_url str:500, original_caption text, generated_caption text,
        reviewed_caption text, final_caption text, image_category str:50,
        prompt_used text, status enum:ProcessingStatus, created_at datetime,
        updated_at datetime, reviewed_at datetime, posted_at datetime,
        original_post_date datetime, reviewer_notes text, processing_error text,
        caption_quality_score int, needs_special_review bool
    """,
    "job_audit_log": """
        id int!, task_id str:36, user_id int, admin_user_id int, action str:50!,
        details text, timestamp datetime, ip_address str:45, user_agent str:500,
        session_id str:255, platform_connection_id int, previous_status str:50,
        new_status str:50, error_code str:50, processing_time_ms int
    """,
    "notifications": """
        id str:64!, user_id int, type enum:NotificationType!,
        priority enum:NotificationPriority!, category enum:NotificationCategory!,
        title str:255!, message text!, data text, timestamp datetime!,
        expires_at datetime, requires_action bool, action_url str:500,
        action_text str:100, delivered bool, read bool, created_at datetime,
        updated_at datetime
    """,
    "platform_connections": """
        id int!, user_id int!, name str:100!, platform_type str:50!,
        instance_url str:500!, username str:200, access_token text!, client_key text,
        client_secret text, is_active bool, is_default bool, created_at datetime,
        updated_at datetime, last_used datetime
    """,
    "posts": """
        id int!, post_id str:500!, user_id int!, post_url str:500!, post_content text,
        created_at datetime, updated_at datetime, platform_connection_id int,
        platform_type str:50, instance_url str:500
    """,
    "processing_runs": """
        id int!, user_id int!, batch_id str:200, started_at datetime,
        completed_at datetime, posts_processed int, images_processed int,
        captions_generated int, errors_count int, status str:50,
        platform_connection_id int, platform_type str:50, instance_url str:500,
        retry_attempts int, retry_successes int, retry_failures int,
        retry_total_time int, retry_stats_json text
    """,
    "storage_event_log": """
        id int!, event_type str:50!, storage_gb float!, limit_gb float!,
        usage_percentage float, user_id int, timestamp datetime!, details text,
        storage_override_id int
    """,
    "storage_overrides": """
        id int!, admin_user_id int!, activated_at datetime!, expires_at datetime!,
        duration_hours int!, reason str:500, is_active bool!, deactivated_at datetime,
        deactivated_by_user_id int, storage_gb_at_activation float,
        limit_gb_at_activation float
    """,
    "system_alerts": """
        id int!, alert_configuration_id int!, alert_type enum:AlertType!,
        severity enum:AlertSeverity!, status str:20, title str:200!, message text!,
        metric_value float, context_data text, created_at datetime,
        acknowledged_at datetime, resolved_at datetime, acknowledged_by int,
        resolved_by int, acknowledgment_note text, resolution_note text,
        notifications_sent text, last_notification_sent datetime, notification_count int
    """,
    "system_configuration": """
        id int!, key str:100!, value text, description text, data_type str:20,
        is_sensitive bool, category str:50, updated_by int!, updated_at datetime,
        created_at datetime
    """,
    "users": """
        id int!, username str:64!, email str:120!, password_hash str:256!,
        role enum:UserRole, is_active bool, created_at datetime, last_login datetime,
        email_verified bool, email_verification_token str:255,
        email_verification_sent_at datetime, first_name str:100, last_name str:100,
        password_reset_token str:255, password_reset_sent_at datetime,
        password_reset_used bool, data_processing_consent bool,
        data_processing_consent_date datetime, account_locked bool,
        failed_login_attempts int, last_failed_login datetime
    """,
    "user_audit_log": """
        id int!, user_id int, action str:100!, details text, ip_address str:45,
        user_agent text, created_at datetime, admin_user_id int
    """,
    "user_sessions": """
        id int!, session_id str:255!, user_id int!, active_platform_id int,
        created_at datetime!, updated_at datetime!, last_activity datetime!,
        expires_at datetime!, is_active bool!, session_fingerprint text,
        user_agent text, ip_address str:45
    """,
}

# "table.column -> referenced table, what happens on delete"
FOREIGN_KEYS = """
system_alerts.alert_configuration_id alert_configuration RESTRICT
job_audit_log.task_id caption_generation_tasks CASCADE
compliance_requirements.audit_id compliance_audits RESTRICT
caption_generation_tasks.platform_connection_id platform_connections CASCADE
caption_generation_user_settings.platform_connection_id platform_connections CASCADE
images.platform_connection_id platform_connections CASCADE
job_audit_log.platform_connection_id platform_connections RESTRICT
posts.platform_connection_id platform_connections CASCADE
processing_runs.platform_connection_id platform_connections CASCADE
user_sessions.active_platform_id platform_connections RESTRICT
images.post_id posts CASCADE
storage_event_log.storage_override_id storage_overrides SET NULL
alert_configuration.created_by users RESTRICT
caption_generation_tasks.user_id users CASCADE
caption_generation_tasks.admin_user_id users RESTRICT
caption_generation_user_settings.user_id users CASCADE
compliance_audits.auditor_id users RESTRICT
gdpr_audit_log.user_id users RESTRICT
gdpr_audit_log.admin_user_id users RESTRICT
job_audit_log.user_id users RESTRICT
job_audit_log.admin_user_id users RESTRICT
notifications.user_id users CASCADE
platform_connections.user_id users CASCADE
posts.user_id users CASCADE
processing_runs.user_id users CASCADE
storage_event_log.user_id users SET NULL
storage_overrides.admin_user_id users CASCADE
storage_overrides.deactivated_by_user_id users SET NULL
system_alerts.acknowledged_by users RESTRICT
system_alerts.resolved_by users RESTRICT
system_configuration.updated_by users RESTRICT
user_audit_log.admin_user_id users RESTRICT
user_audit_log.user_id users RESTRICT
user_sessions.user_id users RESTRICT
"""

# Values the application gives a column of this name when the caller gives none.
COLUMN_DEFAULTS: dict[str, bool | int | str] = {
    "account_locked": False,
    "admin_managed": False,
    "attachment_index": 0,
    "cancelled_by_admin": False,
    "captions_generated": 0,
    "data_processing_consent": False,
    "delivered": False,
    "email_verified": False,
    "errors_count": 0,
    "failed_login_attempts": 0,
    "images_processed": 0,
    "is_active": True,
    "is_default": False,
    "max_retries": 3,
    "needs_special_review": False,
    "password_reset_used": False,
    "posts_processed": 0,
    "progress_percent": 0,
    "read": False,
    "retry_attempts": 0,
    "retry_count": 0,
    "retry_failures": 0,
    "retry_successes": 0,
    "retry_total_time": 0,
}

UNIQUE_KEYS: dict[str, list[tuple[str, ...]]] = {
    "users": [("username",), ("email",)],
    "platform_connections": [("user_id", "name")],
    "user_sessions": [("session_id",)],
    "system_configuration": [("key",)],
}
