<?php
// internal/logout.php: Ends the session, for the route that PHP no longer answers. Its Set-Cookie is passed on to the visitor.
session_start();
$_SESSION = [];
session_destroy();
setcookie(session_name(), "", ["expires" => 1, ...array_diff_key(session_get_cookie_params(), ["lifetime" => 0])]);
http_response_code(204);
