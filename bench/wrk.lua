-- One kind of request, and the totals as one line of JSON. Argument: bytes of request body, 0 for a GET.

function init(args)
  local body = tonumber(args[1]) or 0
  if body > 0 then
    wrk.method = "POST"
    wrk.body = string.rep("x", body)
    wrk.headers["Content-Type"] = "application/octet-stream"
  end
  prepared = wrk.format(nil, wrk.path)
end

function request()
  return prepared
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"microseconds":%d,"bytes":%d,"p50":%d,"p90":%d,"p99":%d,"p999":%d,' ..
      '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency:percentile(99.9),
    e.connect, e.read, e.write, e.status, e.timeout))
end
