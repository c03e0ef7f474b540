import Addresses
import NetlinkMessages
import Testing

@testable import BGPProgram

@Suite("The kernel as the speaker sees it")
struct KernelViewTests {
  @Test("An address behind a tunnel is another host's, whoever tells of the interface first; a workload's is this host's")
  func tunnels() throws {
    let workload = Link(index: 2, name: "cali1", kind: "veth", flags: [.up])
    let tunnel = Link(index: 3, name: "vxlan-v6.calico", kind: "vxlan", flags: [.up])
    let routes = [("fd65::7/128", 2), ("fd65:2::/128", 3)].map {
      KernelRoute.device(IPPrefix($0.0)!, interface: UInt32($0.1), protocol: .felix)
    }
    var view = KernelView()
    view.reset(links: [workload, tunnel], addresses: [], routes: routes)
    #expect(Array(view.ownRoutes.keys) == [IPPrefix("fd65::7/128")!])
    view.reset(links: [workload], addresses: [], routes: routes)
    _ = view.handle(.link(tunnel))
    #expect(Array(view.ownRoutes.keys) == [IPPrefix("fd65::7/128")!])
  }
}
