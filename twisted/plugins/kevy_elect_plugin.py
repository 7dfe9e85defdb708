from twisted.application.service import ServiceMaker

kevy_elect = ServiceMaker("kevy-elect", "kevy_elect.tap", "Elect one primary", "kevy-elect")
