"""Grafana's settings: an ini file, of which sections and keys are known by name."""

from __future__ import annotations

import configparser
import dataclasses
import re
import typing as t
from pathlib import Path

KNOWN: dict[str, frozenset[str]] = {
    section: frozenset(keys.split())
    for section, keys in {
        "DEFAULT": "app_mode instance_name",
        "paths": "data temp_data_lifetime logs plugins provisioning",
        "server": "protocol http_addr http_port domain enforce_domain root_url serve_from_sub_path "
        "router_logging static_root_path enable_gzip cert_file cert_key socket read_timeout",
        "database": "type host name user password url wal max_open_conn path",
        "analytics": "enabled reporting_enabled check_for_updates check_for_plugin_updates "
        "feedback_links_enabled google_analytics_ua_id",
        "security": "disable_initial_admin_creation admin_user admin_password admin_email "
        "secret_key disable_gravatar data_source_proxy_whitelist "
        "disable_brute_force_login_protection cookie_secure cookie_samesite allow_embedding "
        "strict_transport_security x_content_type_options x_xss_protection "
        "content_security_policy content_security_policy_template",
        "snapshots": "enabled external_enabled external_snapshot_url external_snapshot_name",
        "public_dashboards": "enabled",
        "dashboards": "versions_to_keep min_refresh_interval default_home_dashboard_path",
        "users": "allow_sign_up allow_org_create auto_assign_org auto_assign_org_id "
        "auto_assign_org_role verify_email_enabled default_theme default_language "
        "home_page viewers_can_edit",
        "auth": "login_cookie_name login_maximum_inactive_lifetime_duration "
        "login_maximum_lifetime_duration disable_login_form disable_signout_menu "
        "signout_redirect_url oauth_auto_login",
        "auth.anonymous": "enabled org_name org_role hide_version",
        "auth.basic": "enabled password_policy",
        "auth.proxy": "enabled header_name header_property auto_sign_up whitelist headers",
        "smtp": "enabled host user password from_address from_name startTLS_policy",
        "log": "mode level filters",
        "log.console": "level format",
        "metrics": "enabled interval_seconds disable_total_stats basic_auth_username "
        "basic_auth_password",
        "news": "news_feed_enabled",
        "live": "max_connections allowed_origins ha_engine",
        "plugins": "enable_alpha app_tls_skip_verify_insecure allow_loading_unsigned_plugins "
        "plugin_admin_enabled plugin_admin_external_manage_enabled preinstall "
        "preinstall_disabled preinstall_async",
        "unified_alerting": "enabled admin_config_poll_interval evaluation_timeout",
        "explore": "enabled",
        "help": "enabled",
        "profile": "enabled",
        "feature_toggles": "enable",
    }.items()
}
"""What may be in the file. The real Grafana takes no notice of other names; here they are refused,
because a misspelt setting is one that is not in force."""

_FILE = re.compile(r"\$__file\{([^}]+)\}")


class SettingsError(Exception):
    """Settings with which Grafana does not start."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The file's values, with what stands in other files in its place."""

    values: dict[str, dict[str, str]]

    def text(self, section: str, key: str, default: str = "") -> str:
        """Return a value."""
        return self.values.get(section, {}).get(key, default)

    def flag(self, section: str, key: str, default: bool = False) -> bool:
        """Return a value that is true or false."""
        text = self.text(section, key, str(default)).lower()
        if text not in ("true", "false"):
            raise SettingsError(f"[{section}] {key}: {text!r} is neither true nor false")
        return text == "true"

    @property
    def data(self) -> Path:
        """Where it keeps its database."""
        return Path(self.text("paths", "data", "data"))

    @property
    def provisioning(self) -> Path:
        """Where it finds what it is to have."""
        return Path(self.text("paths", "provisioning", "conf/provisioning"))

    @property
    def prefix(self) -> str:
        """Path below which it is served, without a slash at the end."""
        if not self.flag("server", "serve_from_sub_path"):
            return ""
        found = re.fullmatch(r"https?://[^/]+(/.*)?", self.text("server", "root_url"))
        if found is None:
            raise SettingsError("[server] root_url: is no address")
        return (found[1] or "").rstrip("/")


def _inserted(where: str, value: str) -> str:
    def content(found: re.Match[str]) -> str:
        try:
            return Path(found[1]).read_text("utf-8").strip()
        except OSError as exc:
            raise SettingsError(f"{where}: {found[1]} cannot be read: {exc.strerror}") from exc

    return _FILE.sub(content, value)


def read(path: Path) -> Settings:
    """Return the settings of a file.

    Raises:
        SettingsError: for a file that cannot be read, and for names that are not known.
    """
    parser = configparser.ConfigParser(interpolation=None, default_section="", strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(path.read_text("utf-8"))
    except (OSError, configparser.Error) as exc:
        raise SettingsError(f"{path}: {exc}") from exc
    wrong = [
        f"[{section}] {key}"
        for section in parser.sections()
        for key in parser[section]
        if key not in KNOWN.get(section, ())
    ]
    wrong += [f"[{section}]" for section in parser.sections() if section not in KNOWN]
    if wrong:
        raise SettingsError(f"{path}: not known: {', '.join(wrong)}")
    values: dict[str, dict[str, t.Any]] = {
        section: {
            key: _inserted(f"[{section}] {key}", value) for key, value in parser[section].items()
        }
        for section in parser.sections()
    }
    settings = Settings(values)
    for section, key in (
        ("server", "serve_from_sub_path"),
        ("security", "cookie_secure"),
        ("auth.anonymous", "enabled"),
        ("users", "allow_sign_up"),
        ("metrics", "enabled"),
    ):
        settings.flag(section, key)
    if not settings.text("server", "http_port", "3000").isdecimal():
        raise SettingsError("[server] http_port: is no number")
    return settings
