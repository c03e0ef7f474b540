/// What drivers of links and tunnels ask of the kernel: the real one, or one that obeys its rules and knows kinds that this kernel lacks.

public import Addresses
public import NetlinkMessages

public protocol RouteKernel: AnyObject {
  func links() throws(NetlinkError) -> [Link]
  func link(named name: String) throws(NetlinkError) -> Link?
  func addresses(family: IPFamily?, interface: UInt32?) throws(NetlinkError) -> [AssignedAddress]
  func neighbours(family: IPFamily?, proxies: Bool, interface: UInt32?) throws(NetlinkError) -> [Neighbour]
  func forwarding(interface: UInt32) throws(NetlinkError) -> [ForwardingEntry]
  func apply(_ changes: [RouteNetlinkChange]) throws(NetlinkError) -> [NetlinkError?]
}

extension RouteNetlink: RouteKernel {}
