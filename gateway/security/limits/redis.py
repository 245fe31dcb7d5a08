"""Counts the use of callers in Redis, for all gateways together.

An account has a hash with its debts and a sorted set with its leases and when they end. Both
expire when there is nothing left to remember. Times are those of the Redis server, in
microseconds: the clocks of gateways may differ. The numbers of the scripts stay below 2^53, so that
Lua's numbers hold them exactly.
"""

from collections.abc import Mapping
from typing import Final

from gateway.redis import connect
from gateway.security.limits.base import Counts, LimitSet, Policy
from gateway.security.limits.memory import LEASE_SECONDS
from gateway.security.limits.meter import TICKS
from gateway.tls import NO_FILES, TlsFiles

_REFUSED: Final = {1: Policy.REQUESTS, 2: Policy.MEGAPIXELS, 4: Policy.CONCURRENT}
"""Bits in the answer of a script."""

_COMMON: Final = f"""
local TICKS = {TICKS}
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local pixel_rate, pixel_burst = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local kept = redis.call('HMGET', KEYS[1], 'requests', 'requests_at', 'pixels', 'pixels_at')

-- the debt now, and the moment up to which it is paid back
local function drained(debt, at, rate)
  debt, at = tonumber(debt) or 0, tonumber(at) or now
  return math.max(0, debt - math.max(0, now - at) * rate), math.max(at, now)
end

local requests, requests_at = drained(kept[1], kept[2], rate)
local pixels, pixels_at = drained(kept[3], kept[4], pixel_rate)

local function write()
  local micros = 0
  if rate > 0 then
    redis.call('HSET', KEYS[1], 'requests', requests, 'requests_at', requests_at)
    micros = requests_at - now + requests / rate
  end
  if pixel_rate > 0 then
    redis.call('HSET', KEYS[1], 'pixels', pixels, 'pixels_at', pixels_at)
    micros = math.max(micros, pixels_at - now + pixels / pixel_rate)
  end
  redis.call('PEXPIRE', KEYS[1], math.ceil(micros / 1000) + 1000)
end
"""
"""KEYS: debts, leases. ARGV: units a minute and at once of requests, of pixels; 0: no limit."""

_ADMIT: Final = f"""{_COMMON}
local concurrent, with_images = tonumber(ARGV[5]), ARGV[6] == '1'
local lease, lease_micros = ARGV[7], tonumber(ARGV[8])
local taken = 0
if concurrent > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  taken = redis.call('ZCARD', KEYS[2])
end
local refused = 0
if rate > 0 and requests + TICKS > burst * TICKS then refused = refused + 1 end
if with_images and pixel_rate > 0 and pixels >= pixel_burst * TICKS then refused = refused + 2 end
if concurrent > 0 and taken >= concurrent then refused = refused + 4 end
if refused == 0 then
  if rate > 0 then
    requests = requests + TICKS
    write()
  end
  if concurrent > 0 then
    redis.call('ZADD', KEYS[2], now + lease_micros, lease)
    redis.call('PEXPIRE', KEYS[2], math.ceil(lease_micros / 1000))
    taken = taken + 1
  end
end
return {{refused, requests, pixels, taken}}
"""

_CHARGE: Final = f"""{_COMMON}
pixels = pixels + tonumber(ARGV[5]) * TICKS
write()
local taken = redis.call('ZCOUNT', KEYS[2], '(' .. now, '+inf')
return {{0, requests, pixels, taken}}
"""

_RENEW: Final = """
local time = redis.call('TIME')
local ends = time[1] * 1000000 + time[2] + tonumber(ARGV[1])
for index = 2, #ARGV do
  redis.call('ZADD', KEYS[1], 'XX', ends, ARGV[index])
end
redis.call('PEXPIRE', KEYS[1], math.ceil(tonumber(ARGV[1]) / 1000))
return 0
"""
"""KEYS: leases. ARGV: microseconds, leases. XX: what was released meanwhile does not come back."""


class RedisLimits:
    """`LimitStore` in Redis; opened within a running event loop. Raises as `UNREACHABLE` says."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        lease_seconds: float = LEASE_SECONDS,
        files: TlsFiles = NO_FILES,
    ) -> None:
        """timeout_seconds: for connecting, and for each read. files: of `rediss://`."""
        self._client = connect(url, purpose="limits", timeout_seconds=timeout_seconds, files=files)
        self._lease_microseconds = int(lease_seconds * 1e6)
        self._admit = self._client.register_script(_ADMIT)
        self._charge = self._client.register_script(_CHARGE)
        self._renew = self._client.register_script(_RENEW)

    async def admit(
        self, account: str, limits: LimitSet, *, lease: str, with_images: bool
    ) -> Counts:
        """See `LimitStore.admit`."""
        more = (limits.concurrent or 0, int(with_images), lease, self._lease_microseconds)
        found = await self._admit(keys=_keys(account), args=[*_rates(limits), *more])
        return _counts(found)

    async def charge(self, account: str, limits: LimitSet, kilopixels: int) -> Counts:
        """See `LimitStore.charge`."""
        found = await self._charge(keys=_keys(account), args=[*_rates(limits), kilopixels])
        return _counts(found)

    async def release(self, account: str, lease: str) -> None:
        """See `LimitStore.release`."""
        await self._client.zrem(_keys(account)[1], lease)

    async def renew(self, leases: Mapping[str, str]) -> None:
        """See `LimitStore.renew`."""
        by_account: dict[str, list[str]] = {}
        for lease, account in leases.items():
            by_account.setdefault(account, []).append(lease)
        for account, held in by_account.items():
            await self._renew(keys=_keys(account)[1:], args=[self._lease_microseconds, *held])

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _keys(account: str) -> list[str]:
    # the braces keep both keys on one node of a cluster
    name = f"aurum:limits:{{{account}}}"
    return [f"{name}:debts", f"{name}:leases"]


def _rates(limits: LimitSet) -> list[int]:
    requests, pixels = limits.requests, limits.pixels
    return [
        *((0, 0) if requests is None else (requests.rate, requests.capacity)),
        *((0, 0) if pixels is None else (pixels.rate, pixels.capacity)),
    ]


def _counts(found: object) -> Counts:
    """Read the answer of a script; raises ValueError for anything else."""
    if not isinstance(found, list) or not all(isinstance(each, int) for each in found):
        raise ValueError("the answer is not a list of numbers")
    refused, requests, pixels, taken = found
    names = frozenset(name for bit, name in _REFUSED.items() if refused & bit)
    return Counts(requests, pixels, taken, names)
