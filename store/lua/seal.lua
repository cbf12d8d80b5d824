-- seal: write the seal of a stream's decision behind the seals before it, unless another process has sealed meanwhile.
-- KEYS[1] perdure:{q}:events   KEYS[2] perdure:{q}:seals
-- ARGV[1] ID of the decision   ARGV[2] its number   ARGV[3] its hash   ARGV[4] MAC of the seal before, '' when there is none
-- ARGV[5] when, ms   ARGV[6] which key   ARGV[7] MAC   ARGV[8] sum of the decisions since the seal before
-- Returns 1 sealed; 2 by this call before (sent twice); -1 there is no such decision any more; -2 another seal is the last one
-- by now; -3 this decision or a later one was sealed before, and its seal is gone.
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]

-- field returns a field of an entry of a stream, '' when there is none.
local function field(entry, name)
  for i = 1, entry and #entry[2] or 0, 2 do
    if entry[2][i] == name then return entry[2][i + 1] end
  end
  return ''
end

if field(last, 'mac') == ARGV[7] then return 2 end
if field(last, 'mac') ~= ARGV[4] then return -2 end
local sealed = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if field(sealed, 'n') ~= ARGV[2] or field(sealed, 'hash') ~= ARGV[3] then return -1 end
if redis.call('EXISTS', KEYS[2]) == 1 then
  local about = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then
      local ms, number = string.match(about[i + 1], '^(%d+)-(%d+)$')
      local my_ms, my_number = string.match(ARGV[1], '^(%d+)-(%d+)$')
      if tonumber(ms) > tonumber(my_ms) or ms == my_ms and tonumber(number) >= tonumber(my_number) then return -3 end
    end
  end
end
redis.call('XADD', KEYS[2], ARGV[1], 'n', ARGV[2], 'hash', ARGV[3], 'sum', ARGV[8], 'prev', ARGV[4], 'at', ARGV[5], 'key', ARGV[6], 'mac', ARGV[7])
return 1
