"""The Python client of a Tidemill server: `Client`, what it answers with, and what it raises.

It stands on HTTP alone and imports nothing of the rest of the project, so that it can become a package of its own.
"""

from tidemill.sdk.answers import Page
from tidemill.sdk.calls import EventQuery, LogQuery, PageQuery
from tidemill.sdk.client import Client, Endpoint, JobAnswer
from tidemill.sdk.errors import ApiError, BadAnswerError, ConnectionFailedError, SdkError
from tidemill.sdk.wire import (
    ENDED,
    Attempt,
    Created,
    DeviceLogin,
    EventPage,
    Execution,
    Explanation,
    FeedEvent,
    Job,
    LogLine,
    LogPage,
    Node,
    NodeProtection,
    Protections,
    ResultLine,
    Stats,
    Task,
    Token,
    Trigger,
    Workspace,
)

__all__ = [
    "ENDED",
    "ApiError",
    "Attempt",
    "BadAnswerError",
    "Client",
    "ConnectionFailedError",
    "Created",
    "DeviceLogin",
    "Endpoint",
    "EventPage",
    "EventQuery",
    "Execution",
    "Explanation",
    "FeedEvent",
    "Job",
    "JobAnswer",
    "LogLine",
    "LogPage",
    "LogQuery",
    "Node",
    "NodeProtection",
    "Page",
    "PageQuery",
    "Protections",
    "ResultLine",
    "SdkError",
    "Stats",
    "Task",
    "Token",
    "Trigger",
    "Workspace",
]
