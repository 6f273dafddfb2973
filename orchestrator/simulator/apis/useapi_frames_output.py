"""How the Frames API shows a task, its artifacts and its errors.

Shapes: https://useapi.net/docs/api-runwayml-v1/get-runwayml-tasks-taskId (2026-10). Some fields change their
type there, between text, number and null; they do here too.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from http.client import responses

from orchestrator.simulator.markers import Marker
from orchestrator.simulator.model import Phase, Refused, Snapshot, Task
from orchestrator.simulator.pictures import FILE_BYTES, picture_id, picture_size

USER = 1
FEATURES = {"storageGB": 500, "numPlanCredits_permitted": 2250, "numPlanCredits_used": 1515}
NO_CREDIT = "You do not have enough credits to run this task."
TOO_MANY = (
    "You have too many tasks running or pending. Please wait for some of them to finish before starting more."
)
MODERATED = "Text did not pass content moderation."


def show_task(snapshot: Snapshot) -> dict[str, object]:
    """The task object of answers and callbacks alike."""
    task = snapshot.task
    pictured = not task.order.foreign and Marker.EMPTY not in task.markers
    done = snapshot.phase is Phase.SUCCEEDED and pictured
    options = {"seed": 1 + task.dice % 4294967294, **task.order.parameters}
    options.pop("num_images", None)
    return {
        "taskId": task_id(task),
        "id": task.id,
        "name": options.get("name", ""),
        "image": None,
        "createdAt": _iso(task.created_at),
        "updatedAt": _iso(snapshot.at),
        "taskType": "text_to_image",
        "options": options,
        "status": snapshot.phase.value,
        "error": _task_error(task.reason or "") if snapshot.phase is Phase.FAILED else None,
        "progressText": None,
        "progressRatio": _progress_ratio(snapshot),
        "estimatedTimeToStartSeconds": 0 if snapshot.phase is Phase.PENDING else None,
        "artifacts": _artifacts(snapshot) if done else [],
        "sharedAsset": None,
        "sourceAssetId": None,
        "features": FEATURES,
        "replyUrl": task.order.reply_url,
        "replyRef": task.order.reply_ref,
        "code": 200,
    }


def task_id(task: Task) -> str:
    """The public id, which has colons and an at sign in it."""
    return f"user:{USER}-runwayml:{task.account.email}-task:{task.id}"


def show_references(task: Task) -> dict[str, object]:
    """Task id and, where they were given, callback URL and reference: an entry of `/scheduler`."""
    given = {"replyUrl": task.order.reply_url, "replyRef": task.order.reply_ref}
    return {"taskId": task_id(task), **{name: value for name, value in given.items() if value is not None}}


def show_refusal(refused: Refused) -> dict[str, object]:
    """The error body; some lack `code`, as the real ones do."""
    email = refused.account.email if refused.account else "?"
    match refused.kind:
        case "429A" if refused.account is not None:
            return _busy(refused)
        case "429B":
            return {"error": TOO_MANY}
        case "412":
            return {"error": NO_CREDIT}
        case "422":
            # The body of a 422 is nowhere described: this one is made of the other moderation answers.
            return {"error": MODERATED, **_moderation(), "code": 422}
        case "596":
            return {"error": f"Account {email} in error state: session expired", "code": 596}
        case "404":
            return {"error": "Not found.", "code": 404}
        case _:
            words = refused.detail or responses.get(refused.status, "Unknown")
            return {"error": words, "code": refused.status}


def _busy(refused: Refused) -> dict[str, object]:
    assert refused.account is not None
    email = refused.account.email
    running = [
        {"email": email, "id": task.id, **show_references(task)} for task in refused.account.held.values()
    ]
    return {
        "error": f"Account {email} is busy executing {refused.detail} tasks",
        "runningTasks": {email: running},
        "code": 429,
    }


def _moderation() -> dict[str, object]:
    return {"moderation_category": "violence", "reason": "SAFETY.INPUT.TEXT", "tally_asimov": True}


def _task_error(reason: str) -> dict[str, object]:
    if reason.startswith("SAFETY"):
        return {"errorMessage": MODERATED, "message": MODERATED, **_moderation(), "reason": reason}
    return {
        "errorMessage": "The generation did not succeed.",
        "reason": reason,
        "message": "The generation did not succeed.",
        "moderation_category": None,
        "tally_asimov": False,
    }


def _progress_ratio(snapshot: Snapshot) -> str | float | None:
    """Null at first, then now text, now a number, but always the same for the same state."""
    if snapshot.progress is None:
        return None
    as_text = (snapshot.task.dice + round(snapshot.progress * 100)) % 2
    return f"{snapshot.progress:g}" if as_text else snapshot.progress


def _artifacts(snapshot: Snapshot) -> list[dict[str, object]]:
    task, parameters = snapshot.task, snapshot.task.order.parameters
    width, height = int(str(parameters["width"])), int(str(parameters["height"]))
    name = picture_id(task.order.prompt, task.dice >> 32, width, height)
    if Marker.NO_PICTURE in task.markers:
        name = f"missing-{name}"
    count = int(str(parameters["num_images"]))
    return [
        _artifact(snapshot, f"{task.order.base_url}/artifacts/{name}/{index}.png", index, (width, height))
        for index in range(count)
    ]


def _artifact(snapshot: Snapshot, url: str, index: int, claimed: tuple[int, int]) -> dict[str, object]:
    task = snapshot.task
    asset, made_at = _derived_id(task, str(index)), _iso(snapshot.at)
    width, height = picture_size(*claimed)
    return {
        "assetId": f"user:{USER}-runwayml:{task.account.email}-asset:{asset}",
        "id": asset,
        "taskId": task_id(task),
        "url": url,
        "filename": f"{task.order.prompt[:60]}, {index + 1}.png",
        "fileSize": str(FILE_BYTES),
        "isDirectory": False,
        "previewUrls": [url],
        "createdAt": made_at,
        "updatedAt": made_at,
        "userId": USER,
        "createdBy": USER,
        "parentAssetGroupId": _derived_id(task, "group"),
        "private": True,
        "privateInTeam": True,
        "deleted": False,
        "reported": False,
        "favorite": False,
        "metadata": {"dimensions": [width, height], "size": {"width": width, "height": height}},
    }


def _derived_id(task: Task, name: str) -> str:
    digits = hashlib.md5(f"{task.id}/{name}".encode(), usedforsecurity=False).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
