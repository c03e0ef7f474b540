/// BGP sessions, and the routes that each host learned.
import Tables

extension Demo {
  func showRouting() {
    narrator.heading("BGP sessions and routes")
    narrator.say(LabReport.sessions(LabReport.documents(lab, "bgp")).text(narrator.palette, indent: 2))
    narrator.say(LabReport.routes(LabReport.documents(lab, "bgp")).text(narrator.palette, indent: 2))
  }
}
