"""The Microsoft 365 apps on one shared iPad, as far as tokens go: MSAL, and one token cache for everybody.

Reads orders from standard input, one JSON object a line, and answers each with one line:

    {"do": "sign_in", "upn": "…"}   somebody signs in with the authorization code flow
    {"do": "open", "upn": "…"}      somebody opens an app: no window, only what the cache can do

The root certificate of the directory comes from REQUESTS_CA_BUNDLE.
"""

import json
import sys
from urllib.parse import parse_qsl, urlsplit

import msal
import requests

SCOPES = ["User.Read"]
REDIRECT = "http://localhost/signed-in"


def main(authority, client_id):
    app = msal.PublicClientApplication(
        client_id, authority=authority, instance_discovery=False, token_cache=msal.TokenCache()
    )
    for line in sys.stdin:
        order = json.loads(line)
        answer = {"sign_in": sign_in, "open": open_app}[order["do"]](app, order["upn"])
        print(json.dumps(answer), flush=True)


def sign_in(app, upn):
    flow = app.initiate_auth_code_flow(SCOPES, redirect_uri=REDIRECT, login_hint=upn)
    answer = requests.get(flow["auth_uri"], allow_redirects=False, timeout=20)
    back = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    return told(app.acquire_token_by_auth_code_flow(flow, back))


def open_app(app, upn):
    accounts = app.get_accounts(username=upn)
    if not accounts:
        return {"token": False, "error": "no_account"}
    # The access token is taken for expired, so that the refresh token has to do.
    return told(app.acquire_token_silent_with_error(SCOPES, account=accounts[0], force_refresh=True))


def told(result):
    if result is None:
        return {"token": False, "error": "nothing_cached"}
    return {
        "token": "access_token" in result,
        "error": result.get("error"),
        "codes": result.get("error_codes"),
        "classification": result.get("classification"),
        "suberror": result.get("suberror"),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
