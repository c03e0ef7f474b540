/// The datastore on an etcd v3 cluster.
import NIOCore
import NIOHTTP2
import NIOPosix
import NIOSSL
