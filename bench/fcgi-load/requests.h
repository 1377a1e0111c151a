/* The requests as bytes, which are made once, before the run. */
struct buffer { uint8_t *at; size_t length, size; };

static void put(struct buffer *b, const void *bytes, size_t n)
{
	if (b->length + n > b->size) {
		b->size = (b->length + n) * 2;
		if (!(b->at = realloc(b->at, b->size))) die("out of memory");
	}
	if (bytes) memcpy(b->at + b->length, bytes, n);
	else memset(b->at + b->length, 0, n);
	b->length += n;
}

static void put_length(struct buffer *b, size_t n)
{
	uint8_t l[4] = { (uint8_t)(n >> 24 | 0x80), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };
	put(b, n < 128 ? l + 3 : l, n < 128 ? 1 : 4);
}

static void put_param(struct buffer *b, const char *name, const char *value)
{
	put_length(b, strlen(name));
	put_length(b, strlen(value));
	put(b, name, strlen(name));
	put(b, value, strlen(value));
}

/* The request as one run of bytes, and where in it each record ends (the same for every id). */
static struct buffer *templates;	/* one per id, [1 .. opt.ids] */
static size_t *record_ends, record_count;
static int param_count;
static size_t param_bytes;

static void put_record(struct buffer *b, int type, int id, const uint8_t *content, size_t n)
{
	size_t padding = opt.pad ? (8 - n % 8) % 8 : 0;
	uint8_t header[8] = { 1, (uint8_t)type, (uint8_t)(id >> 8), (uint8_t)id, (uint8_t)(n >> 8), (uint8_t)n,
		(uint8_t)padding, 0 };
	put(b, header, 8);
	put(b, content, n);
	put(b, NULL, padding);
	if (id == 1) {
		record_ends = realloc(record_ends, (record_count + 1) * sizeof *record_ends);
		if (!record_ends) die("out of memory");
		record_ends[record_count++] = b->length;
	}
}

static void put_stream(struct buffer *b, int type, int id, const uint8_t *content, size_t n, size_t step)
{
	for (size_t at = 0; at < n; at += step) put_record(b, type, id, content + at, n - at < step ? n - at : step);
	put_record(b, type, id, NULL, 0);
}

static struct buffer encode_params(void)
{
	struct buffer p = { 0 };
	char length[32] = "", path[512];
	const char *query = strchr(opt.uri, '?');
	snprintf(path, sizeof path, "%.*s", (int)(query ? query - opt.uri : (long)strlen(opt.uri)), opt.uri);
	if (opt.body) snprintf(length, sizeof length, "%ld", opt.body);
	bool nginx = !strcmp(opt.params, "nginx");
	const struct { const char *name, *value; bool small; } list[] = {	/* nginx's fastcgi.conf, and a browser */
		{ "SCRIPT_FILENAME", opt.script, true }, { "QUERY_STRING", query ? query + 1 : "", true },
		{ "REQUEST_METHOD", opt.method, true },
		{ "CONTENT_TYPE", opt.body ? "application/octet-stream" : "", false },
		{ "CONTENT_LENGTH", length, true }, { "SCRIPT_NAME", path, true }, { "REQUEST_URI", opt.uri, true },
		{ "DOCUMENT_URI", path, false }, { "DOCUMENT_ROOT", "/srv/www/app", false },
		{ "SERVER_PROTOCOL", "HTTP/1.1", true }, { "REQUEST_SCHEME", "http", false },
		{ "GATEWAY_INTERFACE", "CGI/1.1", false }, { "SERVER_SOFTWARE", "nginx/1.22.1", false },
		{ "REMOTE_ADDR", "192.0.2.17", false }, { "REMOTE_PORT", "51734", false },
		{ "SERVER_ADDR", "198.51.100.4", false }, { "SERVER_PORT", "80", false },
		{ "SERVER_NAME", "app.example.org", false }, { "REDIRECT_STATUS", "200", false },
		{ "HTTP_HOST", "app.example.org", false },
		{ "HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", false },
		{ "HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false },
		{ "HTTP_ACCEPT_LANGUAGE", "en-US,en;q=0.5", false }, { "HTTP_ACCEPT_ENCODING", "gzip, deflate", false },
		{ "HTTP_COOKIE", "session=9f86d081884c7d659a2feaa0c55ad015; theme=dark", false },
	};
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
		if (nginx || list[i].small) put_param(&p, list[i].name, list[i].value), param_count++;
	}
	for (int i = 0; i < opt.extra_count; i++) {
		const char *equals = strchr(opt.extra[i], '=');
		char name[256];
		if (!equals || equals - opt.extra[i] > 255) die("--param wants NAME=VALUE");
		snprintf(name, sizeof name, "%.*s", (int)(equals - opt.extra[i]), opt.extra[i]);
		put_param(&p, name, equals + 1), param_count++;
	}
	param_bytes = p.length;
	return p;
}

static void encode_requests(void)
{
	struct buffer params = encode_params();
	uint8_t *body = malloc((size_t)opt.body + 1);
	templates = calloc((size_t)opt.ids + 1, sizeof *templates);
	if (!body || !templates) die("out of memory");
	for (long i = 0; i < opt.body; i++) body[i] = (uint8_t)"0123456789abcdefghijklmnopqrstuvwxyz\n"[i % 37];
	for (int id = 1; id <= opt.ids; id++) {
		const uint8_t begin[8] = { 0, 1 /* responder */, (uint8_t)(opt.keep_conn ? 1 : 0) };
		put_record(&templates[id], FCGI_BEGIN, id, begin, 8);
		put_stream(&templates[id], FCGI_PARAMS, id, params.at, params.length, 65528);
		put_stream(&templates[id], FCGI_STDIN, id, body, (size_t)opt.body, (size_t)opt.record_size);
	}
	free(body);
	free(params.at);
}
