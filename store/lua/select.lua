-- select: add a slice of entries to a replay plan. Whoever selects passes on how far it has come, so that another can go
-- on, and two that do so at the same time add each slice once.
-- KEYS[1] perdure:{q}:plan:<id>   KEYS[2] perdure:{q}:plan:<id>:left
-- ARGV[1] the cursor that the slice began at   ARGV[2] the next one, '' after the last slice
-- ARGV[3] how many of the slice cannot be replayed   ARGV[4] how many can, and for each when it was quarantined (ms) and
-- its key
-- Returns 1 added; 2 added, and the plan has as many as it takes; 0 another has gone on from there, or the plan does not select any more; -1 no such plan.
local had = redis.call('HMGET', KEYS[1], 'state', 'cursor', 'by', 'most', 'selected')
if not had[3] then return -1 end
if had[1] ~= 'selecting' or had[2] ~= ARGV[1] then return 0 end
local most, selected, added, next = tonumber(had[4] or 0), tonumber(had[5] or 0), 0, ARGV[2]
for i = 5, 4 + 2 * tonumber(ARGV[4]), 2 do
  if most > 0 and selected + added >= most then break end
  added = added + redis.call('ZADD', KEYS[2], 'NX', ARGV[i], ARGV[i + 1])
end
redis.call('HINCRBY', KEYS[1], 'selected', added)
redis.call('HINCRBY', KEYS[1], 'skipped', ARGV[3])
if most > 0 and selected + added >= most then next = '' end
redis.call('HSET', KEYS[1], 'cursor', next)
if next == '' then redis.call('HSET', KEYS[1], 'state', 'running') end
return next == ARGV[2] and 1 or 2
