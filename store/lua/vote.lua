-- vote: a worker says what it has seen of a dependency. The breaker opens when too many calls fail, of all workers that
-- have a vote together, and enough of these agree.
-- KEYS[1] perdure:{@dep}:d:<name>   KEYS[2] perdure:{@dep}:board   KEYS[3] perdure:{@dep}:names
-- KEYS[4] perdure:{@dep}:events     KEYS[5] perdure:{@dep}:votes:<name>
-- ARGV[1] name   ARGV[2] owner   ARGV[3] the turn that the calls were made in; 0: it is not known to have opened ever
-- ARGV[4] calls ended within a short while   ARGV[5] of them, failed   ARGV[6] calls within a long while
-- ARGV[7] of them, failed   ARGV[8] reason of the last failure   ARGV[9] how long a vote stands, ms
-- Returns 1 it has opened; 0 it has not; -1 the vote is of another turn.
-- A vote is '<at> <calls> <failed> <calls> <failed>'. A worker is against when the calls of its own fail so, enough of them to
-- be no accident. Where one worker alone calls it that one decides; a quorum of more must agree, so that one bad node pauses
-- only itself. Who has not called it within the long while knows nothing, and does not count; but where there are such, fewer than a
-- quorum decide only when they have seen no call succeed for two seconds: those may be about to call it. While it recovers few
-- calls are made, and fewer decide: there two of one worker are not enough where others may call it next.
local _, now_ms = clock()
local had = redis.call('HMGET', KEYS[1], 'state', 'turn')
local state, turn = had[1] or 'closed', had[2] or '0'
if ARGV[3] ~= turn and not (state == 'closed' and ARGV[3] == '0') then return -1 end
redis.call('HSET', KEYS[5], ARGV[2], table.concat({string.format('%.0f', now_ms), ARGV[4], ARGV[5], ARGV[6], ARGV[7]}, ' '))
redis.call('PEXPIRE', KEYS[5], ARGV[9])
redis.call('ZADD', KEYS[3], now_ms, ARGV[1])
if state == 'open' or ARGV[7] == '0' then return 0 end

local votes, sum, recovering, idle, since = {}, {0, 0, 0, 0}, state == 'recovering', 0, nil
local all = redis.call('HGETALL', KEYS[5])
for i = 1, #all, 2 do
  local at, calls, failed, long, long_failed = string.match(all[i + 1], '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  if all[i] == '!alone' then
    since = now_ms - tonumber(all[i + 1]) -- fewer than a quorum have said that it is gone
  elseif not at or math.abs(now_ms - tonumber(at)) > tonumber(ARGV[9]) then
    redis.call('HDEL', KEYS[5], all[i])
  elseif recovering or tonumber(long) > 0 then
    local vote = {tonumber(calls), tonumber(failed), tonumber(long), tonumber(long_failed)}
    votes[#votes + 1] = vote
    for k = 1, 4 do sum[k] = sum[k] + vote[k] end
  else
    idle = idle + 1
  end
end
local ratio, least, quorum = setting(KEYS[1], 'ratio', 0.5), setting(KEYS[1], 'least', 5), setting(KEYS[1], 'quorum', 2)
if recovering then least = math.min(least, 2) end

-- bad says whether so many of so many calls tell that the service is gone.
local function bad(v, enough)
  if v[1] >= enough then return v[2] / v[1] >= ratio end
  return not recovering and v[3] >= enough and v[4] / v[3] >= ratio
end

local own, against = math.max(math.min(least, 2), math.ceil(least / #votes)), 0
for _, vote in ipairs(votes) do
  if bad(vote, recovering and 1 or own) then against = against + 1 end
end
local gone = recovering and sum[1] >= 3 and sum[2] == sum[1] -- whoever has made the calls
local alone = idle > 0 and #votes < quorum
local proven = alone and since and since >= 2000 and since < 10000 and sum[1] == sum[2]
if not proven then
  if not bad(sum, least) or against < math.min(quorum, #votes) and not gone then return 0 end
  if alone then
    if not since or since < 0 or since >= 10000 then redis.call('HSET', KEYS[5], '!alone', now_ms) end
    return 0
  end
end
local long = sum[1] < least
opens(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], 'perdure', string.format('%d of %d calls failed, seen by %d of %d workers; the last one: %s',
  long and sum[4] or sum[2], long and sum[3] or sum[1], proven and #votes or against, #votes, ARGV[8]))
return 1
