"""Ray Serve with its batching in front of transformers, as its documentation shows it.

PEERS_PYTHON -m benchmarks.peer_ray FOLDER PORT float32|bfloat16
"""

import sys

import ray  # type: ignore[import-not-found]
from ray import serve
from ray.serve._private import replica  # type: ignore[import-not-found]
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from benchmarks.peer_model import PaddedModel


@serve.deployment(max_ongoing_requests=1024)
class Spam:
    def __init__(self, folder: str, dtype: str) -> None:
        # Other deployments, if there were any, would call this one on a port of all interfaces.
        replica.add_port_to_grpc_server = lambda server, _: server.add_insecure_port("127.0.0.1:0")
        self.model = PaddedModel(folder, dtype)

    async def __call__(self, request: Request) -> Response:
        if request.method == "GET":  # whether it is up
            return Response()
        body = await request.json()
        return JSONResponse(await self.classify(body["text"]))

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.01)  # type: ignore[untyped-decorator]
    async def classify(self, texts: list[str]) -> list[dict[str, float]]:
        return self.model.classify(texts)


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[2])},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    spam = Spam.bind(sys.argv[1], sys.argv[3])  # type: ignore[attr-defined]
    serve.run(spam, blocking=True)
