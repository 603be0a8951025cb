//! What the server does in one step (EVAL), so that nothing happens in between.
//!
//! Numbers that others may have written are read with care: at most 15 digits, which Lua's numbers hold exactly.

/// The most of a value that is read, bytes. A token has at most 16 KiB, and sealed a third more.
pub(super) const MOST_VALUE_BYTES: usize = 32 * 1024;

/// Whether the server does what is needed: scripts, and writing. KEYS: any. ARGV: for how many milliseconds.
pub(super) const PROBE: &str = "
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
";

/// What lies under a name, and for how many milliseconds yet. KEYS: token. ARGV: the index of the last byte.
pub(super) const LOOK: &str = "
return {redis.call('GETRANGE', KEYS[1], 0, ARGV[1]), redis.call('PTTL', KEYS[1])}
";

/// Takes the lock and the next fence; 0: the lock is another's. KEYS: lock, fence. ARGV: holder (empty: no lock is wanted),
/// lock's life, a fence to be exceeded, fence's life.
///
/// The counter lives far longer than any token, and starts over when the store has lost it: the caller says what it has
/// seen.
pub(super) const TURN: &str = "
if ARGV[1] ~= '' and not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
local digits = string.match(redis.call('GET', KEYS[2]) or '', '^%d+$')
local counted = 0
if digits and #digits <= 15 then counted = tonumber(digits) end
local fence = math.max(counted, tonumber(ARGV[3])) + 1
redis.call('SET', KEYS[2], string.format('%.0f', fence), 'PX', ARGV[4])
return fence
";

/// Stores a token unless one with a higher fence lies there. KEYS: token. ARGV: fence, value, its life, what gives way
/// whatever its fence, the index of that one's last byte.
pub(super) const PUT: &str = "
local old = redis.call('GET', KEYS[1])
if old and string.sub(old, 1, ARGV[5] + 1) ~= ARGV[4] then
  local digits = string.match(old, '^(%d+):')
  if digits and #digits <= 15 and tonumber(digits) > tonumber(ARGV[1]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
";

/// Gives a lock back, if it is still the holder's. KEYS: lock. ARGV: holder, milliseconds that it still stands.
pub(super) const RELEASE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
";
