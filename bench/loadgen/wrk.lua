-- What wrk measured, as one line of JSON: https://github.com/wg/wrk/blob/master/SCRIPTING. Latencies are in microseconds.
function done(summary, latency)
  local counts = {}
  for i = 1, #latency do
    local micros, count = latency(i)
    counts[i] = string.format("[%d,%d]", micros * 1000, count)
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"event":"result","requests":%d,"micros":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"latencyCounts":[%s]}\n',
    summary.requests, summary.duration, errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    table.concat(counts, ",")))
end
