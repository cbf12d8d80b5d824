-- relayed: take out of an outbox what was delivered, unless it was put there again meanwhile.
-- KEYS[1] perdure:{q}:reports or perdure:{q}:orphans
-- ARGV[1], ARGV[2], … pairs of an entry and the score that it was delivered with
-- Returns how many were taken out.
local n = 0
for i = 1, #ARGV - 1, 2 do
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or -1) == tonumber(ARGV[i + 1]) then
    n = n + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return n
