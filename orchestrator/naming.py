"""What a kept picture is called: a template of the settings, filled for one job. Pure.

No two pictures can get one name, and none a name that leads elsewhere, whatever callers call their jobs.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.models import Job

DEFAULT = "{batch}/{job}-{place}"
NO_BATCH, NO_TENANT = "jobs", "nobody"
FIELDS = ("batch", "job", "custom_id", "provider", "account", "place", "date", "tenant")
MAX_TEMPLATE_CHARACTERS = 200
MAX_FOLDER_CHARACTERS = 200  # file systems take 255 bytes, and a suffix comes to it

# A word that is kept as it is. A Celery task, and so a job, may be sent under any id. What looks like a word
# that was changed is changed as well.
PLAIN = re.compile(r"(?!.*-[0-9a-f]{16}\Z)[A-Za-z0-9_][A-Za-z0-9_ .:-]{0,119}")
FOLDER = re.compile(r"(?:[A-Za-z0-9_ :-]|(?<!^)\.|\{[a-z_]+\})+")
FIELD = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Naming:
    """A template without faults."""

    template: str = DEFAULT

    def name(self, job: Job, place: int) -> str:
        """Where one of a job's pictures is kept: folders and name, without a suffix. The same each time."""
        words = {
            "batch": _folder(job.batch),
            "job": plain(job.id),
            # It names a job within its batch only.
            "custom_id": plain(job.custom_id if job.custom_id and job.batch else job.id),
            "provider": plain(job.provider),
            "account": plain(job.account),
            "place": str(place),
            "date": datetime.fromtimestamp(job.created_at, UTC).strftime("%Y-%m-%d"),
            "tenant": plain(job.tenant or NO_TENANT),
        }
        return "/".join(_short(folder) for folder in self.template.format_map(words).split("/"))


def faults(template: str) -> list[str]:
    """What is wrong with a template, each with its cure; empty where it is right."""
    folders = template.split("/")
    if len(template) > MAX_TEMPLATE_CHARACTERS or not all(FOLDER.fullmatch(folder) for folder in folders):
        return [
            f"{template[:MAX_TEMPLATE_CHARACTERS]!r} is no name: it is made of fields such as {{job}}, "
            "letters, digits, spaces and _ . : - with / between folders; none of these is empty or begins "
            "with a dot"
        ]
    named = FIELD.findall(template)
    if unknown := sorted(set(named) - set(FIELDS)):
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        return [f"{{{unknown[0]}}} is not known; known are {known}"]
    found = []
    if "place" not in named:
        found.append("a job may have several pictures: add {place}, as in {job}-{place}")
    if "job" not in named and not {"batch", "custom_id"} <= set(named):
        found.append("two jobs would get one name: add {job}, or {batch} and {custom_id}")
    if re.search(r"\{place\}[\d{]|[\d}]\{place\}", template):
        found.append("{place} runs into what stands beside it: put - or / between")
    own = "job" if "job" in named else "custom_id"
    for folder in folders:
        beside = set(FIELD.findall(folder)) - {own, "place", "date"}
        if f"{{{own}}}" in folder and beside:
            other = sorted(beside)[0]
            found.append(f"{{{other}}} and {{{own}}} run into each other: put / between them")
    return found


def _folder(batch: str) -> str:
    """Where the pictures of a batch are. The batch of a tenant is a folder of the tenant's."""
    if batch == NO_BATCH:
        return _changed(batch, 60)  # that folder is of the jobs without one
    return "/".join(plain(part) for part in (batch or NO_BATCH).split("/", 1))


def plain(text: str) -> str:
    """The text itself where it is a mere name; otherwise one that is, and that no other text has."""
    return text if PLAIN.fullmatch(text) else _changed(text, 60)


def _short(folder: str) -> str:
    return folder if len(folder) <= MAX_FOLDER_CHARACTERS else _changed(folder, 120)


def _changed(text: str, characters: int) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{re.sub('[^A-Za-z0-9]+', '_', text)[:characters]}-{digest[:16]}"
