"""Makes, boots, uses and removes a VPS, with nothing but gRPC and the server's reflection.

Usage: client.py SOCKET IMAGE
"""

import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class Service:
    """A service of the server: its methods are callables, made from what the server says of them."""

    def __init__(self, channel, pool, name):
        self._channel, self._descriptor = channel, pool.FindServiceByName(name)

    def __getattr__(self, name):
        method = self._descriptor.FindMethodByName(name)
        kind = ("stream" if method.client_streaming else "unary") + ("_stream" if method.server_streaming else "_unary")
        call = getattr(self._channel, kind)(
            f"/{self._descriptor.full_name}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        request = GetMessageClass(method.input_type)
        if method.client_streaming:
            return lambda *fields: call((request(**each) for each in fields), timeout=60)
        return lambda **fields: call(request(**fields), timeout=120)


def main(socket, image):
    with grpc.insecure_channel(f"unix:{socket}", options=[("grpc.default_authority", "localhost")]) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        names = sorted(database.get_services())
        print("services:", *names)
        for name in ["Vps", "Snapshot", "Image", "Operation", "Profile", "Network", "Storage", "Host"]:
            assert f"insula.v1.{name}Service" in names, name
        service = lambda name: Service(channel, pool, name)

        health = service("grpc.health.v1.Health").Check()
        assert health.status == 1, health

        vpses, operations = service("insula.v1.VpsService"), service("insula.v1.OperationService")

        def wait(answer):
            operation = operations.WaitOperation(id=answer.operation.id).operation
            assert operation.state == 3, operation  # STATE_SUCCEEDED
            return operation

        wait(vpses.CreateVps(name="foreign", image=image, start=True, wait_ready=True))
        vps = vpses.GetVps(vps="foreign").vps
        assert vps.state == 5, vps  # VPS_STATE_READY
        print("address:", vps.interfaces[0].ip_addresses[0])

        states = [answer.operation.state for answer in operations.WatchOperation(
            id=wait(service("insula.v1.SnapshotService").CreateSnapshot(vps="foreign", snapshot="one")).id)]
        assert states == [3], states

        start = {"start": {"vps": "foreign", "command": ["sh", "-c", "cat; echo done >&2; exit 5"]}}
        answers = list(vpses.ExecVps(start, {"stdin": b"hello "}, {"stdin": b"guest"}, {"stdin_eof": True}))
        assert b"".join(answer.stdout for answer in answers) == b"hello guest", answers
        assert b"".join(answer.stderr for answer in answers) == b"done\n", answers
        assert answers[-1].exit.code == 5, answers

        try:
            vpses.GetVps(vps="nobody")
            raise AssertionError("there is a VPS that nobody made")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
            assert "nobody" in error.details(), error

        wait(vpses.DeleteVps(vps="foreign", force=True))
        assert not vpses.ListVpses().vpses
        print("all done")


if __name__ == "__main__":
    main(*sys.argv[1:])
