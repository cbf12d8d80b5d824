-- report: note in a job's record which children of a group have ended, and wake it when it waits for them and none is open.
-- KEYS[1] asynq:{q}:t:<key> of the parent   KEYS[2] asynq:{q}:retry   KEYS[3] perdure:{q}:parked   KEYS[4] asynq:{q}:pending
-- ARGV[1] key   ARGV[2] incarnation   ARGV[3] name of the group   ARGV[4] '1' they have ended; '0' they are open again
-- ARGV[5], … their positions, from 0, ascending
-- Returns 2 noted, and the parent goes on; 1 noted; 0 nobody waits for it: no such job or group, or the key is another job's.
local had = redis.call('HMGET', KEYS[1], 'p:kids', 'b:' .. ARGV[3], 'w:' .. ARGV[3])
if had[1] ~= ARGV[2] or not had[2] then return 0 end
local pieces, from = {}, 1
for i = 5, #ARGV do
  local at = tonumber(ARGV[i]) + 1
  if at >= from and at <= #had[2] then
    pieces[#pieces + 1] = string.sub(had[2], from, at - 1) .. ARGV[4]
    from = at + 1
  end
end
local now = table.concat(pieces) .. string.sub(had[2], from)
if now ~= had[2] then redis.call('HSET', KEYS[1], 'b:' .. ARGV[3], now) end
if had[3] and not string.find(now, '[-0]') and wake(KEYS[1], ARGV[1], KEYS[2], KEYS[3], KEYS[4]) then return 2 end
return 1
