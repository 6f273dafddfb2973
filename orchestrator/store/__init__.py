"""Redis: what is known of jobs, attempts, slots, lanes and due times. One step of the flow is one script.

Keys (all begin with `orc:`; the scripts in lua/ build them):

    job:<id>                    hash    the job; its parameters, state, place, error, result
    attempt:<id>.<n>            hash    the n-th try: granted → open → submitted → closed
    was:<id>                    string  how many tries a job had that was purged, where its id may come again
    accounts:<provider>         set     account names
    account:<provider>/<name>   hash    its limits now, its rest and why, what was learned of it, busy_seconds
    configured:<provider>/<name>  hash  limits as in the accounts file
    changed:<provider>/<name>   hash    limits that a person changed since; they win
    slots:<provider>/<name>     zset    attempt → end of its lease
    day:<provider>/<name>       zset    attempt → when it was begun, or else granted; with a daily cap
    lane:<target>|<owner>       zset    job → place (priority first, then age)
    lanes:<pool>                zset    lane → how much it was served; pool: a provider, or one account of it
    tenants:<pool>              hash    tenant → its lanes there
    owed:<pool>                 zset    tenant or batch of a lane that ended → how much it was served
    served:<provider>           number  how much the lane served last had been served
    batches                     zset    batch → when its first job came
    weights                     hash    batch, or `<tenant>/` → share of its lanes beside those of weight 1
    paused                      set     provider:<name>, batch:<name>
    due                         zset    job:<id>, account:<provider>/<name>, batch:<name>, notices:<host> → at
    reached                     zset    submit, finish → when what workers begin was sent; when they last did
    dead                        zset    failed job → when it failed
    collecting                  zset    job whose pictures could not be kept → when their URLs die
    storage                     string  why nothing is begun: pictures cannot be kept; expires by itself
    uncertain                   set     open attempts of which it is not known whether they arrived
    spend:<provider>/<name>     hash    <day>/<what became of it> → generations begun; cost
    spend-of:<batch>            hash    <provider>/<account>/<what became of it> → generations begun; cost
    refused:<provider>:<hash>   string  what moderation refused
    batch:<name>                hash    counts by state, busy_seconds, limits, over (when), paused (why)
    filling:<batch>             zset    who fills it → end of the lease
    jobs-of:<batch>             list    job ids in the order they came
    ended-in:<batch>            stream  job ids in the order they ended
    lanes-of:<batch>            set     lanes its jobs waited in
    callbacks, parked           stream  genuine callbacks; those of attempts that are not known, or unreadable
    parked:<attempt>            list    the latest of its callbacks in `parked`, by their ids; for a day
    delivery:<provider>:<hash>  string  a signed callback that was taken
    durations:<provider>/<model>  list  seconds of the latest generations
    missing                     hash    provider → share of callbacks that did not come
    notice:<id>                 hash    what must be told to whom, since a job or a batch ended
    notices, dead-notices       zset    notice that waits → when it was made; … that was given up → when
    notices:<host>              zset    notice that waits for a host → when to send it; `@celery`: signatures
    telling:<host>              zset    notice on its way → until when it is waited for
    host:<host>                 hash    of one that does not answer: failures in a row, since when, its rest
    places                      number  the last place given in a lane
    format                      number  of all this: see `Server.agree_on_format`
    counts, stats               hash    jobs by provider and state; events by provider

Every method may raise StoreUnavailable, and then may be called again: the scripts are safe to repeat.
"""

from __future__ import annotations

from orchestrator.models import RETENTION, Retention
from orchestrator.store.accounts import Accounts
from orchestrator.store.answers import Opened
from orchestrator.store.batches import Batches
from orchestrator.store.collecting import Collecting
from orchestrator.store.dead_letters import DeadLetters
from orchestrator.store.jobs import Jobs
from orchestrator.store.journal import Heard, Journal
from orchestrator.store.lanes import Lanes
from orchestrator.store.link import Link
from orchestrator.store.notices import Notices
from orchestrator.store.open_jobs import OpenJobs
from orchestrator.store.server import Server
from orchestrator.store.spend import Ledger
from orchestrator.store.waiting import Waiting
from orchestrator.store.whole import Wholes

__all__ = ["Heard", "Opened", "Store"]


class Store(Jobs, Waiting):
    """Everything Redis knows. Thread-safe."""

    def __init__(self, url: str, retention: Retention = RETENTION) -> None:
        self._link = link = Link(url, retention)
        self.retention = retention
        self.accounts = Accounts(link)
        self.batches = Batches(link)
        self.lanes = Lanes(link)
        self.dead = DeadLetters(link)
        self.collecting = Collecting(link)
        self.spend = Ledger(link)
        self.journal = Journal(link)
        self.open_jobs = OpenJobs(link)
        self.notices = Notices(link)
        self.server = Server(link)
        self.whole = Wholes(link)
        self.gather = link.gather  # for a process in which many wait at the same time

    def close(self) -> None:
        self._link.client.close()

    def ping(self) -> None:
        self._link.call(self._link.client.ping)
