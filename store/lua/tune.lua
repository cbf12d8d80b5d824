-- tune: change settings of a dependency or a limit; '' takes one back.
-- KEYS[1] perdure:{@dep}:d:<name>   KEYS[2] perdure:{@dep}:board    KEYS[3] perdure:{@dep}:names
-- KEYS[4] perdure:{@dep}:events     KEYS[5] perdure:{@dep}:decided:<nonce> of this decision
-- ARGV[1] name   ARGV[2] '' an operator's settings, or 'code:' those of a program, which is no decision
-- ARGV[3] actor   ARGV[4] reason   and then pairs of setting and value
-- Returns 1 changed; 2 it was so before. Sent twice, what it answered before.
local before = ARGV[2] == '' and taken(KEYS[5])
if before then return before end
local called, changed = {least = 'min_calls', places = 'concurrency'}, {}
for i = 5, #ARGV, 2 do
  local field = ARGV[2] .. ARGV[i]
  local was = redis.call('HGET', KEYS[1], field) or ''
  if was ~= ARGV[i + 1] then changed[#changed + 1] = {field, ARGV[i + 1], (called[ARGV[i]] or ARGV[i]) .. '=' .. (was == '' and 'default' or was),
      (called[ARGV[i]] or ARGV[i]) .. '=' .. (ARGV[i + 1] == '' and 'default' or ARGV[i + 1])} end
end
if #changed == 0 then return 2 end
local _, now_ms = clock()
local was, is = {}, {}
for i, change in ipairs(changed) do
  if change[2] == '' then redis.call('HDEL', KEYS[1], change[1]) else redis.call('HSET', KEYS[1], change[1], change[2]) end
  was[i], is[i] = change[3], change[4]
end
redis.call('ZADD', KEYS[3], now_ms, ARGV[1])
if ARGV[2] == '' then
  redis.call('PERSIST', KEYS[1])
  decision(KEYS[4], 'set', ARGV[1], ARGV[3], ARGV[4], table.concat(was, ' '), table.concat(is, ' '))
end
post(KEYS[1], KEYS[2], ARGV[1])
if ARGV[2] ~= '' then return 1 end
return took(KEYS[5], 1)
