/// What a daemon tells over HTTP: liveness, readiness and metrics.
import Hummingbird
