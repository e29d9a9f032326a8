"""/v0/service_accounts and their API keys (contract 2.6)."""

from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from tidemill.api.auth import Asked
from tidemill.api.calls import Call, json_answer
from tidemill.api.wire import parse_json, validated
from tidemill.api.wire_identity import (
    ApiKeyBody,
    ServiceAccountBody,
    key_view,
    required,
    service_account_view,
    service_account_wish,
)
from tidemill.service import api_keys, service_accounts
from tidemill.service.api_keys import Owner

router = APIRouter(prefix="/v0")


@router.get("/service_accounts")
async def list_service_accounts(call: Asked) -> Response:
    found = await call.run(partial(service_accounts.list_all, call.parts, call.principal))
    return json_answer([service_account_view(each) for each in found])


@router.post("/service_accounts")
async def create_service_account(call: Asked) -> Response:
    body = validated(ServiceAccountBody, parse_json(await call.body()), strict=call.strict)
    name, wish = required(body.name, "name"), service_account_wish(body)
    made = partial(service_accounts.create, call.parts, call.principal, name, wish, now=call.now)
    account, secret = await call.run(made)
    return json_answer({**service_account_view(account), "client_secret": secret})


@router.put("/service_accounts/{client_id}")
async def update_service_account(call: Asked, client_id: str) -> Response:
    wish = service_account_wish(validated(ServiceAccountBody, parse_json(await call.body()), strict=call.strict))
    change = partial(service_accounts.change, call.parts, call.principal, client_id, wish, now=call.now)
    return json_answer(service_account_view(await call.run(change)))


@router.delete("/service_accounts/{client_id}")
async def delete_service_account(call: Asked, client_id: str) -> Response:
    gone = await call.run(partial(service_accounts.delete, call.parts, call.principal, client_id))
    return json_answer(service_account_view(gone))


@router.get("/service_accounts/{client_id}/api_keys")
async def list_service_account_keys(call: Asked, client_id: str) -> Response:
    return await _list(call, api_keys.service_account(client_id))


@router.post("/service_accounts/{client_id}/api_keys")
async def create_service_account_key(call: Asked, client_id: str) -> Response:
    return await _create(call, api_keys.service_account(client_id))


@router.delete("/service_accounts/{client_id}/api_keys/{key_id}")
async def delete_service_account_key(call: Asked, client_id: str, key_id: str) -> Response:
    return await _delete(call, api_keys.service_account(client_id), key_id)


@router.get("/profile/api_keys")
async def list_own_keys(call: Asked) -> Response:
    return await _list(call, api_keys.oneself(call.principal))


@router.post("/profile/api_keys")
async def create_own_key(call: Asked) -> Response:
    return await _create(call, api_keys.oneself(call.principal))


@router.delete("/profile/api_keys/{key_id}")
async def delete_own_key(call: Asked, key_id: str) -> Response:
    return await _delete(call, api_keys.oneself(call.principal), key_id)


async def _list(call: Call, owner: Owner) -> Response:
    found = await call.run(partial(api_keys.list_all, call.parts, call.principal, owner))
    return json_answer([key_view(each) for each in found])


async def _create(call: Call, owner: Owner) -> Response:
    body = validated(ApiKeyBody, parse_json(await call.body()), strict=call.strict)
    name, expires_in = body.name or "api-key", body.expires_in or ""
    create = partial(api_keys.create, call.parts, call.principal, owner, name, expires_in, now=call.now)
    key, text = await call.run(create)
    return json_answer(key_view(key, text))


async def _delete(call: Call, owner: Owner, key_id: str) -> Response:
    await call.run(partial(api_keys.delete, call.parts, call.principal, owner, key_id))
    return json_answer({"message": "the key is good for nothing from now on"})
