/* Reading what the server answers, and checking every record and every reply of it. */
static void check_reply(struct request *r)
{
	int status = 200;
	size_t expect = opt.expect_body ? strlen(opt.expect_body) : 0;
	if (!r->head_done) {
		count[N_truncated_head]++, r->bad = true;
		return;
	}
	for (char *line = r->head, *end = r->head + r->head_length; line < end; ) {
		char *newline = memchr(line, '\n', (size_t)(end - line));
		if (!strncasecmp(line, "Status:", 7)) status = atoi(line + 7);
		line = newline ? newline + 1 : end;
	}
	if (status != opt.expect_status) count[N_bad_status]++, r->bad = true;
	if (opt.expect_bytes >= 0 && r->body != (uint64_t)opt.expect_bytes) count[N_bad_body_length]++, r->bad = true;
	if (opt.expect_body && (r->body != expect || r->head_length + expect > HEAD_MAX ||
			memcmp(r->head + r->head_length, opt.expect_body, expect))) count[N_bad_body]++, r->bad = true;
}

static void finish_request(struct connection *c, int id)
{
	struct request *r = &c->requests[id];
	uint64_t now = now_ns();
	uint32_t protocol_status = c->end[4];
	if (c->content_have != 8) count[N_bad_end_length]++, r->bad = true;
	else if (protocol_status) count[N_protocol_status]++, r->bad = true;
	else check_reply(r);
	if (c->content_have == 8 && (c->end[0] | c->end[1] | c->end[2] | c->end[3])) count[N_app_status_nonzero]++;
	if (!r->stdout_eof) count[N_no_stdout_eof]++;
	if (now >= measure_from) {
		completed++;
		good += !r->bad;
		body_in += r->body;
		histogram_add(now - r->begun);
	}
	r->active = false;
	c->active--;
	c->served++;
	last_progress = now;
	if (r->unsent) count[N_early_end]++;
	else release(c, id);
	if (!opt.keep_conn && opt.wait_eof) c->close_by = now + 1000000000u;
}

static void stdout_bytes(struct request *r, const uint8_t *p, size_t n)
{
	size_t had = r->head_done ? r->head_length + r->body : r->head_length;
	if (had < HEAD_MAX) memcpy(r->head + had, p, n < HEAD_MAX - had ? n : HEAD_MAX - had);
	if (r->head_done) {
		r->body += n;
		return;
	}
	size_t have = had + n < HEAD_MAX ? had + n : HEAD_MAX;
	for (size_t i = had; i < have; i++) {	/* the blank line: LF LF, or LF CR LF */
		if (r->head[i] != '\n' || !i) continue;
		if (r->head[i - 1] != '\n' && !(i >= 2 && r->head[i - 1] == '\r' && r->head[i - 2] == '\n')) continue;
		r->head_done = true;
		r->head_length = (uint32_t)i + 1;
		r->body = had + n - r->head_length;
		return;
	}
	r->head_length = (uint32_t)have;
}

/* Checks a record's header.  Returns false when the rest of the connection cannot be understood. */
static bool begin_record(struct connection *c)
{
	const uint8_t *h = c->header;
	int type = h[1], id = h[2] << 8 | h[3];
	c->content = (size_t)(h[4] << 8 | h[5]);
	c->padding = h[6];
	c->content_have = 0;
	count[N_records_in]++;
	if (h[6]) count[N_padded_records]++;
	if (h[0] != 1) return count[N_bad_version]++, false;
	if (type != FCGI_END && type != FCGI_STDOUT && type != FCGI_STDERR) return count[N_unexpected_type]++, true;
	if (id < 1 || id > opt.ids) return count[N_unknown_id]++, true;
	if (!c->requests[id].active) return count[N_data_after_end]++, true;
	if (type == FCGI_STDOUT) {
		if (c->requests[id].stdout_eof) count[N_data_after_stdout_eof]++, c->requests[id].bad = true;
		if (!c->content) c->requests[id].stdout_eof = true;
	}
	if (type == FCGI_STDERR) count[N_stderr_bytes] += (long)c->content;
	return true;
}

static bool read_records(struct connection *c, const uint8_t *p, size_t n)
{
	while (n || (c->header_have == 8 && !c->content && !c->padding)) {
		if (c->header_have < 8) {
			size_t take = 8 - c->header_have < n ? 8 - c->header_have : n;
			memcpy(c->header + c->header_have, p, take);
			c->header_have += take, p += take, n -= take;
			if (c->header_have == 8 && !begin_record(c)) return false;
			continue;
		}
		int type = c->header[1], id = c->header[2] << 8 | c->header[3];
		bool known = id >= 1 && id <= opt.ids && c->requests[id].active;
		size_t take = c->content < n ? c->content : n;
		if (known && type == FCGI_STDOUT) stdout_bytes(&c->requests[id], p, take);
		for (size_t i = 0; type == FCGI_END && i < take && c->content_have + i < 8; i++) c->end[c->content_have + i] = p[i];
		c->content_have += take, c->content -= take, p += take, n -= take;
		take = c->content ? 0 : c->padding < n ? c->padding : n;
		c->padding -= take, p += take, n -= take;
		if (c->content || c->padding) break;
		c->header_have = 0;
		if (known && type == FCGI_END) finish_request(c, id);
	}
	return true;
}

static void readable(struct connection *c)
{
	ssize_t n;
	do {
		n = read(c->fd, read_buffer, sizeof read_buffer);
		if (n < 0 && errno == EAGAIN) return;
		if (n <= 0) {
			if (!c->active && !(n == 0 && c->close_by)) count[N_closed_while_idle]++;
			close_connection(c, !c->active ? -1 : n < 0 ? N_reset : c->got_bytes ? N_eof_in_reply : N_eof_before_reply);
			return;
		}
		bytes_in += (size_t)n;
		c->got_bytes = true;
		if (!read_records(c, read_buffer, (size_t)n)) { close_connection(c, N_eof_in_reply); return; }
		if (!c->active) {
			c->got_bytes = false;
			if (!opt.keep_conn && !opt.wait_eof) { close_connection(c, -1); return; }
		}
	} while ((size_t)n == sizeof read_buffer);
	if (opt.keep_conn) {
		start_requests(c);
		if (c->queue_count) flush(c);
	}
}
