//! Scripts that the server runs in one step (EVAL), so that nothing happens in between.
//!
//! Numbers that others may have written are read with care: at most 15 digits, which Lua's numbers hold exactly. So are
//! keys of another type, which make most commands fail: `SET` replaces them, whatever they are.

/// The most of a value that is read, bytes. A token has at most 16 KiB, and sealed a third more.
pub(super) const MOST_VALUE_BYTES: usize = 32 * 1024;

/// Whether the server does what is needed: scripts, and writing. KEYS: any. ARGV: for how many milliseconds.
pub(super) const PROBE: &str = "
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
";

/// The value of a key, and its remaining milliseconds; empty when it is no string. KEYS: token. ARGV: the index of the
/// last byte.
pub(super) const LOOK: &str = "
local value = redis.pcall('GETRANGE', KEYS[1], 0, ARGV[1])
if type(value) == 'table' then
  if not string.find(value.err, 'WRONGTYPE', 1, true) then return value end
  value = ''
end
return {value, redis.call('PTTL', KEYS[1])}
";

/// Takes the lock and the next fence, and looks at the token in the same moment: whoever had the lock before may have
/// stored one after the caller's last look. Answers with 0 alone when another replica has the lock; else with the
/// fence, what was replaced because no replica leaves it there (1: a lock, 2: a counter), and what [`LOOK`] answers.
/// KEYS: lock, fence, token. ARGV: holder (empty: no lock is wanted), lock's life, a fence to be exceeded, fence's
/// life, the highest fence, the index of the token's last byte.
///
/// The counter lives far longer than any token. When the store has lost it, counting goes on above what the caller
/// passes: the time, or the highest fence that it has seen. Beyond the highest fence, where somebody must have pushed it, it begins at 1 again. A
/// lock that is no string, has no end, or ends later than any replica's would hold up everybody for ever: it is
/// ignored.
pub(super) const TURN: &str = "
local odd = 0
if ARGV[1] ~= '' and not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  local left = redis.call('PTTL', KEYS[1])
  if type(redis.pcall('GET', KEYS[1])) == 'string' and left >= 0 and left <= tonumber(ARGV[2]) then return {0} end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  odd = 1
end
local above, most, counted = tonumber(ARGV[3]), tonumber(ARGV[5]), 0
local old = redis.pcall('GET', KEYS[2])
if old then
  local digits = type(old) == 'string' and string.match(old, '^%d+$')
  if digits and #digits <= 15 and tonumber(digits) < most then counted = tonumber(digits) else odd = odd + 2 end
end
local fence = math.max(counted, above) + 1
if fence > most then
  fence = 1
  if odd < 2 then odd = odd + 2 end
end
redis.call('SET', KEYS[2], string.format('%.0f', fence), 'PX', ARGV[4])
local value = redis.pcall('GETRANGE', KEYS[3], 0, ARGV[6])
if type(value) ~= 'string' then value = '' end
return {fence, odd, value, redis.call('PTTL', KEYS[3])}
";

/// Stores a token unless one with a higher fence is there. KEYS: token. ARGV: fence, value, its life, a value that is
/// replaced whatever its fence, the index of that value's last byte.
pub(super) const PUT: &str = "
local old = redis.pcall('GET', KEYS[1])
if type(old) == 'string' and string.sub(old, 1, ARGV[5] + 1) ~= ARGV[4] then
  local digits = string.match(old, '^(%d+):')
  if digits and #digits <= 15 and tonumber(digits) > tonumber(ARGV[1]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
";

/// Gives a lock back, if it is still the holder's. KEYS: lock. ARGV: holder, milliseconds that it still stands.
pub(super) const RELEASE: &str = "
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
";

/// Says that a replica is there, gives it its rank, and counts all of them. KEYS: fleet. ARGV: the replica (12 hexadecimal
/// digits), the rank that it had last (-1: none), its clock, whether it leaves (1 or 0), the table's life, the index of
/// its last byte, how many ranks matter, how many replicas it may hold, after how long a silent one is struck off, after how
/// long the table is settled, the longest gap. Times are milliseconds. Answers with rank (-1: none yet), number, clock,
/// and whether the table is settled.
///
/// The table is one string: `SERVICE CLOCK;` and `RANK.REPLICA.SEEN;` for each. SERVICE is how long the table has been in
/// use: of a time without any replica only the longest gap counts, so that a store that was away strikes nobody off. CLOCK
/// runs on all the time. The time since the last call is what is missing of the life that it gave the key.
///
/// A replica keeps its rank, and takes the one that it had, and the clock, along into a table that begins anew. Until that
/// is settled, ranks that matter are given to nobody else: those who had them may be on their way.
pub(super) const FLEET: &str = "
local me, had, now, life = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
local matter, most, silent = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local value = redis.pcall('GETRANGE', KEYS[1], 0, ARGV[6])
local service, clock, rest
if type(value) == 'string' then service, clock, rest = string.match(value, '^(%d+) (%d+);(.*)$') end
local passed = life - redis.call('PTTL', KEYS[1])
if rest and #service <= 12 and #clock <= 12 and passed >= 0 and passed <= life then
  service = tonumber(service) + math.min(passed, tonumber(ARGV[11]))
  clock = tonumber(clock) + passed
else
  service, clock, rest = 0, 0, ''
end
local settled = service >= tonumber(ARGV[10])
if not settled then clock = math.max(clock, now) end
local known, taken, kept, number = {}, {}, {}, 1
for rank, id, seen in string.gmatch(rest, '(%d*)%.(%x+)%.(%d+);') do
  local age = #seen <= 12 and service - tonumber(seen) or -1
  if #rank > 4 or #id ~= 12 or known[id] or number > most or age < 0 or age >= silent then
    rank = nil
  elseif id == me then
    if rank ~= '' then had = tonumber(rank) end
    rank = nil
  end
  if rank then
    known[id] = true
    number = number + 1
    if rank ~= '' then
      if taken[tonumber(rank)] then rank = '' else taken[tonumber(rank)] = true end
    end
    kept[#kept + 1] = rank .. '.' .. id .. '.' .. seen .. ';'
  end
end
local rank = -1
if had >= 0 and not taken[had] and (had < matter or not settled) then
  rank = had
elseif had >= 0 or settled then
  rank = settled and 0 or matter
  while taken[rank] do rank = rank + 1 end
end
if ARGV[4] == '1' then
  rank, number = -1, number - 1
elseif number <= most then
  kept[#kept + 1] = (rank < 0 and '' or string.format('%d', rank)) .. '.' .. me .. '.' .. string.format('%.0f', service) .. ';'
end
redis.call('SET', KEYS[1], string.format('%.0f %.0f;', service, clock) .. table.concat(kept), 'PX', ARGV[5])
return {rank, number, clock, settled and 1 or 0}
";
