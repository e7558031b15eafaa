"""A real broker: TLS on every listener, SCRAM for clients, the standard authorizer; nothing is allowed by default."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trustme
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from deploy.acls import Grant
from deploy.local.broker import HOST, Broker, free_port
from events.kafka import KafkaSettings, connection

ADMIN = "admin"
CODES = {"topic": 2, "group": 3, "transactionalId": 5, "literal": 3, "prefix": 4, "Read": 3, "Write": 4, "Describe": 8}
"""Kafka's own numbers (org.apache.kafka.common.acl, .resource)."""
ALLOW = 3
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


def password_of(principal: str) -> str:
    return f"password-of-{principal}"


class SecureBroker(Broker):
    """`principals` can log in; only the administrator and the broker itself may do anything before ACLs are made."""

    def __init__(self, folder: Path, principals: list[str]) -> None:
        super().__init__(folder)
        self._principals = [ADMIN, *principals]
        self.ca_file = folder / "ca.pem"

    def settings(self, principal: str, **more: object) -> KafkaSettings:
        """How a principal logs in."""
        return KafkaSettings.model_validate(
            {
                "kafka_bootstrap_servers": self.bootstrap_servers,
                "kafka_security_protocol": "SASL_SSL",
                "kafka_security_sasl_mechanism": "SCRAM-SHA-512",
                "kafka_security_sasl_username": principal,
                "kafka_security_sasl_password": password_of(principal),
                "kafka_security_ca_file": self.ca_file,
                **more,
            }
        )

    def spawn(self) -> None:
        """With certificates of its own authority."""
        authority = trustme.CA()
        self.folder.mkdir(parents=True, exist_ok=True)
        authority.cert_pem.write_to_path(self.ca_file)
        issued = authority.issue_cert(HOST, common_name="broker")
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        # Kafka reads keys in PKCS 8 only.
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "broker.pem").write_bytes(pem + b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        super().spawn()

    def _addresses(self, controller_port: int) -> dict[str, str]:
        broker_port = free_port()
        return {
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(
                f"{name}://{HOST}:{port}"
                for name, port in {"CLIENTS": self._port, "BROKER": broker_port, "CONTROLLER": controller_port}.items()
            ),
            "advertised.listeners": f"CLIENTS://{HOST}:{self._port},BROKER://{HOST}:{broker_port}",
            "inter.broker.listener.name": "BROKER",
            "listener.security.protocol.map": "CLIENTS:SASL_SSL,BROKER:SSL,CONTROLLER:SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.folder / "broker.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            # The broker shows its certificate to itself; nobody else has one of this authority.
            "listener.name.broker.ssl.client.auth": "required",
            "listener.name.controller.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.clients.scram-sha-512.sasl.jaas.config": SCRAM,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": f"User:broker;User:{ADMIN}",
        }

    def _format_options(self) -> list[str]:
        users = [f"SCRAM-SHA-512=[name={name},password={password_of(name)}]" for name in self._principals]
        return [word for user in users for word in ("--add-scram", user)]

    def wait_until_answering(self) -> None:
        """It speaks to nobody without TLS: `administrating` waits."""


@asynccontextmanager
async def administrating(broker: SecureBroker, principal: str = ADMIN) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client of this principal."""
    client = AIOKafkaAdminClient(**connection(broker.settings(principal)), request_timeout_ms=10_000)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def allow(client: AIOKafkaAdminClient, principal: str, grant: Grant) -> None:
    """Make the ACLs of a grant."""
    for operation in grant.operations:
        request = CreateAclsRequest(
            CODES[grant.resource], grant.name, CODES[grant.pattern], f"User:{principal}", "*", CODES[operation], ALLOW
        )
        answer = await client._send_to_controller(request)
        assert [code for code, _ in answer.creation_responses] == [0]
