/// What a lab needs of the machine, asked before anything is made: each missing thing is named together with what to do.
import Glibc
import NetlinkEdge
import Sockets

public enum Preflight {
  public struct Problem: Error, CustomStringConvertible {
    public let what: String
    public let remedy: String
    public var description: String { "\(what)\n  \(remedy)" }
  }

  public static func check(_ topology: Topology = .datacenter) throws {
    guard geteuid() == 0 else {
      throw Problem(what: "a lab makes network namespaces, which needs root", remedy: "run the same command as root")
    }
    do {
      _ = try NetworkNamespace.make()
    } catch {
      throw Problem(
        what: "this kernel or container does not let us make a network namespace (\(error))",
        remedy: "a kernel with CONFIG_NET_NS, and in a container the capability CAP_SYS_ADMIN, is needed")
    }
    let namespace = try NetworkNamespace.make()
    do {
      let socket = try namespace.netlink(.netfilter)
      _ = socket
    } catch {
      throw Problem(
        what: "this kernel has no nfnetlink (\(error))", remedy: "load nf_tables (modprobe nf_tables) or use a kernel with CONFIG_NF_TABLES"
      )
    }
    var needed: [(program: String, use: String, package: String)] = []
    if topology.routers.contains(where: { $0.program == .bird }) {
      needed += [("bird", "the routers of the lab", "bird2"), ("birdc", "the routers of the lab", "bird2")]
    }
    if topology.datastore == .etcd {
      needed += [("etcd", "the datastore of the lab", "etcd-server"), ("etcdctl", "which asks the lab's etcd how it is", "etcd-client")]
    }
    for (program, use, package) in needed where find(program) == nil {
      throw Problem(what: "\(program), \(use), is not installed", remedy: "apt-get install \(package)")
    }
  }

  /// The path of a program, searched where administrators' programs are, too.
  public static func find(_ program: String) -> String? {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"].map { "\($0)/\(program)" }.first {
      unsafe access($0, X_OK) == 0
    }
  }
}
