-- silent: owners that have not beaten for too long. How long that is an owner says itself, in ms at the end of its name
-- ('…~1600'), so that processes that are set differently agree about it.
-- KEYS[1] perdure:owners
-- ARGV[1] limit in ms of owners that do not say theirs   ARGV[2] most owners to name
-- Returns the owners, longest silent first.
local _, now_ms = clock()
local reply, most = {}, tonumber(ARGV[2])
local quiet = now_ms - math.min(500, tonumber(ARGV[1])) -- nobody's limit is less
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', quiet, 'WITHSCORES', 'LIMIT', 0, 1000)
for i = 1, #found, 2 do
  local limit = tonumber(string.match(found[i], '~(%d+)$') or ARGV[1])
  if now_ms - tonumber(found[i + 1]) >= limit and #reply < most then reply[#reply + 1] = found[i] end
end
return reply
