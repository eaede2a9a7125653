"""Passwords and rate limit, asked directly: in virtual time, and with real bcrypt of cost 4."""

import asyncio
import base64
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import bcrypt
import pytest

from exporter.config.web import WebConfig
from exporter.web.auth import (
    REMEMBERED,
    Access,
    Login,
    RateLimit,
    Verdict,
    Verify,
    hashes_to_compare,
)
from exporter.web.fair_queue import CLIENTS, WAITING, WAITING_EACH

PASSWORD = "hunter2"  # noqa: S105 - a test's


def make_hash(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


HASHED = make_hash(PASSWORD)
USERS = {"alice": HASHED}
HERE = "192.0.2.1"
ALLOWED, REFUSED, BUSY = Verdict.ALLOWED, Verdict.REFUSED, Verdict.BUSY


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


RIGHT = basic("alice", PASSWORD)


class Passwords:
    """The access control, asked with the users that are configured at that moment."""

    def __init__(self, verify: Verify | None = None) -> None:
        self._users: Mapping[str, str] = {}
        self.access = Access(self._config, verify=verify)

    def _config(self) -> WebConfig:
        return WebConfig(users=tuple(self._users.items()))

    async def check(self, users: Mapping[str, str], authorization: str, client: str) -> Verdict:
        verdict, _ = await self.login(users, authorization, client)
        return verdict

    async def login(
        self, users: Mapping[str, str], authorization: str, client: str = HERE
    ) -> tuple[Verdict, Login]:
        self._users = users
        return await self.access.check(authorization, client)

    def allows(self, users: Mapping[str, str], login: Login) -> bool:
        self._users = users
        return self.access.allows(login)


class SlowHashes:
    """Takes 0.2 s of virtual time for each comparison, and records it."""

    def __init__(self) -> None:
        self.compared: list[bytes] = []
        self.running = 0

    async def __call__(self, password: bytes, hashes: Sequence[str]) -> bool:
        assert self.running == 0
        self.running += 1
        self.compared.append(password)
        try:
            await asyncio.sleep(0.2)
        finally:
            self.running -= 1
        return password == PASSWORD.encode()


class CountedHashes:
    """Refuses everything, and records what each comparison would have cost."""

    def __init__(self) -> None:
        self.costs: list[int] = []

    async def __call__(self, password: bytes, hashes: Sequence[str]) -> bool:
        self.costs.append(sum(2 ** int(hashed.split("$")[2]) for hashed in hashes))
        return False


class Attack:
    """Clients that send wrong passwords all the time, each again as soon as it is answered."""

    def __init__(self, passwords: Passwords, clients: int, each: int = 1) -> None:
        self._passwords = passwords
        self.verdicts: Counter[Verdict] = Counter()
        self._tasks = [
            asyncio.create_task(self._run(f"198.18.{n // 250}.{n % 250}"))
            for n in range(clients)
            for _ in range(each)
        ]

    async def _run(self, client: str) -> None:
        while True:
            verdict = await self._passwords.check(USERS, basic("alice", "wrong"), client)
            self.verdicts[verdict] += 1
            if verdict is BUSY:
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class TestPasswords:
    @pytest.mark.parametrize(
        ("authorization", "verdict"),
        [
            (RIGHT, ALLOWED),
            (RIGHT.replace("Basic", "bAsIc"), ALLOWED),
            (basic("alice", "wrong"), REFUSED),
            (basic("bob", PASSWORD), REFUSED),
            (basic("", PASSWORD), REFUSED),
            (basic("alice", "x" * 5000), REFUSED),
            (basic("alice", "nul\0"), REFUSED),
            (basic("alice", ""), REFUSED),
            ("", REFUSED),
            ("Basic", REFUSED),
            ("Basic !!!", REFUSED),
            ("Basic \xe4", REFUSED),
            ("Basic /w==", REFUSED),
            ("Basic /zp4", REFUSED),  # ff, a colon, x
            ("Basic YWxpY2U=", REFUSED),  # alice, without a colon
            ("Bearer x", REFUSED),
        ],
    )
    async def test_only_a_right_password_is_allowed(
        self, authorization: str, verdict: Verdict
    ) -> None:
        passwords = Passwords()

        for _ in range(2):  # a right one is remembered
            assert await passwords.check(USERS, authorization, HERE) is verdict

    async def test_every_request_is_allowed_without_users(self) -> None:
        assert await Passwords().check({}, "", HERE) is ALLOWED

    @pytest.mark.parametrize("kind", ["2a", "2b", "2y"])
    async def test_bcrypt_hashes_of_every_prefix_are_known(self, kind: str) -> None:
        users = {"alice": HASHED.replace("$2b$", f"${kind}$")}

        assert await Passwords().check(users, RIGHT, HERE) is ALLOWED

    async def test_right_password_is_compared_once(self) -> None:
        hashes = SlowHashes()
        passwords = Passwords(hashes)

        for _ in range(3):
            assert await passwords.check(USERS, RIGHT, HERE) is ALLOWED

        assert hashes.compared == [PASSWORD.encode()]

    async def test_concurrent_right_passwords_are_compared_once(self) -> None:
        hashes = SlowHashes()
        passwords = Passwords(hashes)

        verdicts = await asyncio.gather(*(passwords.check(USERS, RIGHT, HERE) for _ in range(3)))

        assert verdicts == [ALLOWED] * 3
        assert hashes.compared == [PASSWORD.encode()]

    async def test_old_password_is_refused_after_the_hash_changed(self) -> None:
        passwords = Passwords()
        assert await passwords.check(USERS, RIGHT, HERE) is ALLOWED

        assert await passwords.check({"alice": make_hash("new")}, RIGHT, HERE) is REFUSED

    async def test_remembered_password_is_refused_for_another_user(self) -> None:
        passwords = Passwords()
        assert await passwords.check(USERS, RIGHT, HERE) is ALLOWED
        assert await passwords.check(USERS, basic("bob", PASSWORD), HERE) is REFUSED

        assert await passwords.check({"bob": HASHED}, RIGHT, HERE) is REFUSED
        assert await passwords.check({"bob": HASHED}, basic("bob", PASSWORD), HERE) is ALLOWED

    async def test_wrong_passwords_do_not_displace_remembered_ones(self) -> None:
        hashes = SlowHashes()
        passwords = Passwords(hashes)
        await passwords.check(USERS, RIGHT, HERE)
        for number in range(2 * REMEMBERED):
            await passwords.check(USERS, basic("alice", str(number)), HERE)
        compared = len(hashes.compared)

        assert await passwords.check(USERS, RIGHT, HERE) is ALLOWED
        assert len(hashes.compared) == compared

    async def test_right_passwords_are_remembered_in_bounded_memory(self) -> None:
        async def always(_password: bytes, _hashes: Sequence[str]) -> bool:
            return True

        passwords = Passwords(always)
        for number in range(2 * REMEMBERED):
            assert await passwords.check(USERS, basic("alice", str(number)), HERE) is ALLOWED

        assert len(passwords.access._right) == REMEMBERED  # the bound is the promise


class TestUserNames:
    USERS: Mapping[str, str] = {
        name: f"$2b${cost:02d}${filling * 53}"
        for name, cost, filling in (("alice", 10, "a"), ("carol", 4, "b"), ("dave", 12, "c"))
    }

    @pytest.mark.parametrize("order", ["alice bob carol dave", "bob alice dave carol bob"])
    @pytest.mark.parametrize("password", ["wrong", ""])
    async def test_wrong_password_costs_the_same_for_every_user_name(
        self, order: str, password: str
    ) -> None:
        hashes = CountedHashes()
        passwords = Passwords(hashes)
        names = order.split()

        for _ in range(3):
            for name in names:
                assert await passwords.check(self.USERS, basic(name, password), HERE) is REFUSED

        assert hashes.costs == [2**12] * 3 * len(names)

    async def test_filler_hashes_make_a_cheap_user_as_costly_as_the_costliest(self) -> None:
        users = {"alice": make_hash(PASSWORD, cost=6), "carol": make_hash("other", cost=4)}
        hashes = hashes_to_compare(users, "carol")

        assert [hashed[:7] for hashed in hashes] == ["$2b$04$", "$2b$04$", "$2b$05$"]
        for filler in hashes[1:]:  # bcrypt computes with them, and nothing fits
            assert not bcrypt.checkpw(b"x", filler.encode())
        assert await Passwords().check(users, basic("carol", "other"), HERE) is ALLOWED
        assert await Passwords().check(users, basic("carol", "wrong"), HERE) is REFUSED

    async def test_request_without_credentials_costs_no_comparison(self) -> None:
        hashes = CountedHashes()

        assert await Passwords(hashes).check(USERS, "", HERE) is REFUSED
        assert hashes.costs == []


class TestWaiting:
    async def test_flood_of_one_client_is_refused_beyond_its_share(self) -> None:
        passwords = Passwords()
        requests = (passwords.check(USERS, basic("alice", str(n)), HERE) for n in range(60))

        verdicts = await asyncio.gather(*requests)

        assert Counter(verdicts) == {REFUSED: 1 + WAITING_EACH, BUSY: 59 - WAITING_EACH}

    @pytest.mark.parametrize(
        ("clients", "each", "bound_s"),
        [(8, 3, 2.0), (8, 30, 2.0), (100, 3, 20.6), (CLIENTS - 2, 1, 50.6)],
    )
    async def test_right_password_is_allowed_in_time_during_an_attack(
        self, clients: int, each: int, bound_s: float
    ) -> None:
        passwords = Passwords(SlowHashes())
        attack = Attack(passwords, clients, each)
        await asyncio.sleep(5.0)
        started_s = asyncio.get_running_loop().time()

        verdict = await passwords.check(USERS, RIGHT, HERE)

        assert verdict is ALLOWED
        assert asyncio.get_running_loop().time() - started_s <= bound_s
        await attack.stop()

    async def test_right_password_is_allowed_during_an_attack_with_real_bcrypt(self) -> None:
        passwords = Passwords()
        attack = Attack(passwords, 8, 3)
        await asyncio.sleep(0)

        assert await passwords.check(USERS, RIGHT, HERE) is ALLOWED
        await attack.stop()

    async def test_scraper_that_times_out_keeps_its_place_in_the_queue(self) -> None:
        passwords = Passwords(SlowHashes())
        attack = Attack(passwords, 200)  # one round takes 40 s
        await asyncio.sleep(1.0)

        verdict = BUSY
        for _scrape in range(5):
            try:
                async with asyncio.timeout(10.0):
                    verdict = await passwords.check(USERS, RIGHT, HERE)
                break
            except TimeoutError:
                await asyncio.sleep(5.0)

        assert verdict is ALLOWED
        await attack.stop()

    async def test_comparison_counts_although_its_client_disconnected(self) -> None:
        hashes = SlowHashes()
        passwords = Passwords(hashes)
        impatient = asyncio.create_task(passwords.check(USERS, RIGHT, HERE))
        await asyncio.sleep(0.1)

        impatient.cancel()
        await asyncio.sleep(0.2)

        assert await passwords.check(USERS, RIGHT, HERE) is ALLOWED
        assert hashes.compared == [PASSWORD.encode()]

    async def test_close_refuses_all_requests_that_wait_for_a_comparison(self) -> None:
        passwords = Passwords(SlowHashes())
        assert await passwords.check(USERS, RIGHT, HERE) is ALLOWED
        requests = [
            asyncio.create_task(passwords.check(USERS, basic("alice", "wrong"), f"c{n}"))
            for n in range(100)
        ]
        await asyncio.sleep(0.1)

        passwords.access.close()
        async with asyncio.timeout(0.2):  # the comparison under way
            verdicts = await asyncio.gather(*requests)

        assert verdicts == [REFUSED] + [BUSY] * 99
        assert await passwords.check(USERS, basic("alice", "new"), HERE) is BUSY
        assert await passwords.check(USERS, RIGHT, HERE) is ALLOWED

    async def test_waiting_clients_take_turns(self) -> None:
        hashes = SlowHashes()
        passwords = Passwords(hashes)
        sent = ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]

        await asyncio.gather(
            *(passwords.check(USERS, basic("alice", text), text[0]) for text in sent)
        )

        assert hashes.compared == [b"a1", b"a2", b"b1", b"c1", b"a3", b"b2", b"a4"]

    async def test_newest_request_of_the_client_with_most_waiting_is_refused(self) -> None:
        passwords = Passwords(SlowHashes())
        running = asyncio.create_task(passwords.check(USERS, basic("alice", "x"), "first"))
        await asyncio.sleep(0)
        pairs = [f"{letter}{number}" for letter in string.ascii_lowercase[:10] for number in "12"]
        assert len(pairs) == WAITING
        waiting = [
            asyncio.create_task(passwords.check(USERS, basic("alice", text), text[0]))
            for text in pairs
        ]
        await asyncio.sleep(0)

        new = asyncio.create_task(passwords.check(USERS, RIGHT, "new"))
        third = asyncio.create_task(passwords.check(USERS, RIGHT, "j"))

        verdicts = dict(zip(pairs, await asyncio.gather(*waiting), strict=True))
        assert [text for text, verdict in verdicts.items() if verdict is BUSY] == ["a2"]
        assert (await new, await third, await running) == (ALLOWED, BUSY, REFUSED)

    async def test_client_that_disconnects_leaves_the_queue(self) -> None:
        hashes = SlowHashes()
        passwords = Passwords(hashes)
        requests = [
            asyncio.create_task(passwords.check(USERS, basic("alice", text), "a"))
            for text in ("running", "first", "second", "third")
        ]
        await asyncio.sleep(0.1)

        for gone in requests[1:]:
            gone.cancel()
        await asyncio.sleep(0)
        again = [passwords.check(USERS, basic("alice", str(n)), "a") for n in range(3)]

        assert await asyncio.gather(*again) == [REFUSED] * 3
        assert hashes.compared == [b"running", b"0", b"1", b"2"]

    async def test_turn_is_passed_on_when_its_client_disconnects_at_that_moment(self) -> None:
        passwords = Passwords(SlowHashes())
        first = asyncio.create_task(passwords.check(USERS, basic("alice", "x"), "a"))
        await asyncio.sleep(0)
        second = asyncio.create_task(passwords.check(USERS, basic("alice", "y"), "b"))
        await asyncio.sleep(0)
        first.add_done_callback(lambda _: second.cancel())

        await first

        async with asyncio.timeout(1.0):
            assert await passwords.check(USERS, RIGHT, HERE) is ALLOWED

    async def test_queue_remembers_clients_in_bounded_memory(self) -> None:
        passwords = Passwords(SlowHashes())
        running = asyncio.create_task(passwords.check(USERS, basic("alice", "x"), "first"))
        await asyncio.sleep(0)

        for _ in range(2):  # each with more clients than can be remembered, which then disconnect
            crowd = [
                asyncio.create_task(passwords.check(USERS, basic("alice", "y"), str(n)))
                for n in range(CLIENTS + 500)
            ]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(passwords.access._queue._waiting) == CLIENTS  # the bound is the promise
            refused = [task.result() for task in crowd if task.done()]
            assert refused == [BUSY] * 500
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)

        assert await passwords.check(USERS, RIGHT, HERE) is ALLOWED
        await running


class TestLogin:
    async def test_login_of_an_unchanged_user_stays_allowed(self) -> None:
        passwords = Passwords()
        _, login = await passwords.login(USERS, RIGHT)

        assert passwords.allows({"bob": make_hash("x")} | USERS, login)

    @pytest.mark.parametrize(
        "users",
        [{"bob": HASHED}, {"alice": make_hash(PASSWORD)}],
        ids=["removed", "password exchanged"],
    )
    async def test_login_of_a_changed_user_is_no_longer_allowed(
        self, users: Mapping[str, str]
    ) -> None:
        passwords = Passwords()
        _, login = await passwords.login(USERS, RIGHT)

        assert not passwords.allows(users, login)

    @pytest.mark.parametrize("authorization", ["", RIGHT])
    async def test_login_without_users_ends_when_there_are_users(self, authorization: str) -> None:
        passwords = Passwords()
        _, login = await passwords.login({}, authorization)

        assert passwords.allows({}, login)
        assert not passwords.allows(USERS, login)


class TestRateLimit:
    def test_rate_limit_allows_a_burst_and_then_one_request_an_interval(self) -> None:
        now_s = 100.0
        limit = RateLimit(lambda: now_s)

        burst = [limit.take(burst=3, interval_s=10.0) for _ in range(5)]
        now_s += 25.0
        later = [limit.take(burst=3, interval_s=10.0) for _ in range(3)]

        assert burst == [True, True, True, False, False]
        assert later == [True, True, False]

    @pytest.mark.parametrize(("burst", "interval_s"), [(0, 0.0), (5, 0.0)])
    def test_rate_limit_of_zero_allows_every_request(self, burst: int, interval_s: float) -> None:
        limit = RateLimit()

        assert all(limit.take(burst=burst, interval_s=interval_s) for _ in range(100))
